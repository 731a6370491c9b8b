"""Tokenizer of a few words, models of texts and images, and encoded images."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

WORDS = ("[PAD]", "[UNK]", "good", "bad", "film", "a", "very")


def write_tokenizer(path: Path) -> Path:
    """Write a tokenizer that splits at spaces; unknown words become [UNK]."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    path.write_text(json.dumps(content))
    return path


def text_model(path: Path, *, masked: bool = True) -> Path:
    """Write a model that counts `bad` and `good`; unless `masked`, padding also counts as `bad`."""
    table = np.zeros((len(WORDS), 2), np.float32)
    table[WORDS.index("bad"), 0] = table[WORDS.index("good"), 1] = 1.0
    table[0, 0] = 0.0 if masked else 1.0
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["words", "wide"] if masked else ["words", "one"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "places"], ["scores"], keepdims=0),
    ]
    constants = {"table": table, "last": np.array([-1]), "places": np.array([1]), "one": np.array(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "text",
        inputs,
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


TOKEN_VECTORS = np.random.default_rng(5).normal(size=(len(WORDS), 3)).astype(np.float32)


def token_model(path: Path, *, length: str = "sequence_length") -> Path:
    """Write an encoder: `last_hidden_state`, each token's vector plus the sum of all, and `pooler_output`, the sum.

    `length` names the dimension of the tokens in the outputs.
    """
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"])
        for name in ("input_ids", "attention_mask")
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["words", "wide"], ["real"]),
        helper.make_node("ReduceSum", ["real", "places"], ["sum"], keepdims=1),
        helper.make_node("Add", ["words", "sum"], ["last_hidden_state"]),
        helper.make_node("Squeeze", ["sum", "places"], ["pooler_output"]),
    ]
    constants = {"table": TOKEN_VECTORS, "last": np.array([-1]), "places": np.array([1])}
    outputs = [
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch_size", length, 3]),
        helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, ["batch_size", 3]),
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tokens", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def token_vectors(text: str) -> NDArray[Any]:
    """Return the hidden states that `token_model` computes for a text."""
    words = TOKEN_VECTORS[[WORDS.index(word) if word in WORDS else 1 for word in text.split()]]
    return words + words.sum(axis=0)


def image_model(path: Path) -> Path:
    """Write a model of 4x4 grey images whose scores are (darkness, brightness)."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["bright"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["bright", "column"], ["one"]),
        helper.make_node("Sub", ["whole", "one"], ["other"]),
        helper.make_node("Concat", ["other", "one"], ["scores"], axis=1),
    ]
    constants = {"column": np.array([-1, 1]), "whole": np.array(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "image",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def encoded_image(pixels: NDArray[Any], form: str = "PNG") -> bytes:
    """Encode an array of pixels as an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()
