"""Tiny language models as exported for Hugging Face: an ONNX graph with a cache, a tokenizer, and their settings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tokenizers
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.gguf_models import ALL_KNOWN, CONTEXT, SPECIAL, TEMPLATE, byte_text, counting_embedding, counting_output

HEADS = 2
END = 256
"""Token that ends an answer."""
_VOCABULARY = 256 + len(SPECIAL)
_EPSILON = 1e-5
_HIDDEN = -1e9
_OPSET = 18

Weights = dict[str, NDArray[Any]]


def decoder_weights(
    seed: int = 0, *, layers: int = 2, width: int = 64, vocabulary: int = _VOCABULARY, counts: bool = False,
    known: int = ALL_KNOWN,
) -> Weights:  # fmt: skip
    """Return the weights of a model like GPT-2: random ones, or, if it `counts`, as those of `write_gguf`."""
    random = np.random.default_rng(seed)

    def made(*shape: int) -> NDArray[Any]:
        return random.normal(0, 0.3, shape).astype(np.float32)

    weights = {"tokens": made(vocabulary, width), "places": made(CONTEXT, width), "head": made(width, vocabulary)}
    for layer in range(layers):
        weights |= {
            f"query.{layer}": made(width, width),
            f"key.{layer}": made(width, width),
            f"value.{layer}": made(width, width),
            f"out.{layer}": made(width, width),
            f"up.{layer}": made(width, 2 * width),
            f"down.{layer}": made(2 * width, width),
        }
    if counts:
        nothing = {name: array * 0 for name, array in weights.items() if name[:3] in ("out", "dow", "pla")}
        weights |= nothing
        weights["tokens"] = counting_embedding(vocabulary, width, known=known).astype(np.float32)
        weights["head"] = counting_output(vocabulary, width).T.astype(np.float32)
    return weights


def greedy_tokens(weights: Weights, prompt: Sequence[int], count: int) -> list[int]:
    """Return the likeliest tokens after a prompt but for the end, by numpy without a cache: each computes the whole."""
    tokens = list(prompt)
    for _ in range(count):
        logits = _logits(weights, tokens)
        logits[END] = -np.inf
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]


def _logits(weights: Weights, tokens: list[int]) -> NDArray[Any]:
    """Return the logits of the token that follows."""
    length = len(tokens)
    x = weights["tokens"][tokens] + weights["places"][:length]
    hidden = np.where(np.tril(np.ones((length, length))) > 0, 0.0, _HIDDEN)
    for layer in range(_layers(weights)):
        normal = _normal(x)
        query, key, value = (
            (normal @ weights[f"{name}.{layer}"]).reshape(length, HEADS, -1).swapaxes(0, 1)
            for name in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[2]) + hidden
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        mixed = (shares / shares.sum(axis=2, keepdims=True) @ value).swapaxes(0, 1).reshape(length, -1)
        x = x + mixed @ weights[f"out.{layer}"]
        x = x + np.maximum(_normal(x) @ weights[f"up.{layer}"], 0) @ weights[f"down.{layer}"]
    return _normal(x[-1:])[0] @ weights["head"]


def _normal(x: NDArray[Any]) -> NDArray[Any]:
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + _EPSILON)


def _layers(weights: Weights) -> int:
    return sum(name.startswith("query.") for name in weights)


def write_decoder(
    folder: Path, weights: Weights | None = None, *, positions: bool = True, masks: bool = True, **config: Any
) -> Path:
    """Write a folder with a model whose tokens are single bytes, with a chat template; return the folder.

    Without `positions`, the graph has no input `position_ids`, and counts the places from the length of the cache.
    Without `masks`, it ignores `attention_mask` but for its length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = decoder_weights() if weights is None else weights
    onnx.save(decoder_graph(weights, positions=positions, masks=masks), folder / "model.onnx")
    settings = {"model_type": "gpt2", "n_positions": CONTEXT, "eos_token_id": END} | config
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": SPECIAL[0], "chat_template": TEMPLATE}))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def byte_tokenizer() -> Any:
    """Return a tokenizer whose tokens are bytes, and the special ones."""
    model: Any = tokenizers.models.BPE(vocab={byte_text(byte): byte for byte in range(256)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


class _Graph:
    """Graph that is being built; a value has the name of its node."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[Any] = []
        self.constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]

    def add(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def decoder_graph(weights: Weights, *, positions: bool = True, masks: bool = True) -> Any:
    """Return the graph of a model, with inputs and outputs as Hugging Face's exporter names them."""
    graph = _Graph(weights)
    zero, one = graph.constant([0]), graph.constant([1])
    length = graph.add("Shape", "attention_mask", start=1, end=2)
    before = graph.add("Sub", length, graph.add("Shape", "input_ids", start=1, end=2))
    places, all_places = _range(graph, before, length), _range(graph, zero, length)
    x = graph.add("Gather", "tokens", "input_ids")
    x = graph.add("Add", x, graph.add("Gather", "places", "position_ids" if positions else places))
    later = graph.add("Less", graph.add("Unsqueeze", places, one), graph.add("Unsqueeze", all_places, zero))
    real = graph.add("Greater", graph.add("Unsqueeze", "attention_mask", graph.constant([1, 2])), zero)
    seen = graph.add("Not", later)
    seen = graph.add("And", seen, real) if masks else seen
    bias = graph.add("Where", seen, graph.constant(np.float32(0)), graph.constant(np.float32(_HIDDEN)))
    for layer in range(_layers(weights)):
        x = _add_layer(graph, x, bias, layer, weights["tokens"].shape[1])
    graph.add("MatMul", _add_normal(graph, x, weights["tokens"].shape[1]), "head", to="logits")
    return _model(graph, weights, positions=positions)


def _range(graph: _Graph, begin: str, end: str) -> str:
    shape, step = graph.constant(np.zeros(0, np.int64)), graph.constant(np.int64(1))
    return graph.add("Range", graph.add("Reshape", begin, shape), graph.add("Reshape", end, shape), step)


def _add_layer(graph: _Graph, x: str, bias: str, layer: int, width: int) -> str:
    normal, split = _add_normal(graph, x, width), graph.constant([0, 0, HEADS, width // HEADS])
    query, key, value = (
        graph.add("Transpose", graph.add("Reshape", graph.add("MatMul", normal, name), split), perm=[0, 2, 1, 3])
        for name in (f"query.{layer}", f"key.{layer}", f"value.{layer}")
    )
    key = graph.add("Concat", f"past_key_values.{layer}.key", key, to=f"present.{layer}.key", axis=2)
    value = graph.add("Concat", f"past_key_values.{layer}.value", value, to=f"present.{layer}.value", axis=2)
    scale = graph.constant(np.float32((width // HEADS) ** -0.5))
    scores = graph.add("Mul", graph.add("MatMul", query, graph.add("Transpose", key, perm=[0, 1, 3, 2])), scale)
    mixed = graph.add("MatMul", graph.add("Softmax", graph.add("Add", scores, bias), axis=3), value)
    joined = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), graph.constant([0, 0, width]))
    x = graph.add("Add", x, graph.add("MatMul", joined, f"out.{layer}"))
    inner = graph.add("Relu", graph.add("MatMul", _add_normal(graph, x, width), f"up.{layer}"))
    return graph.add("Add", x, graph.add("MatMul", inner, f"down.{layer}"))


def _add_normal(graph: _Graph, x: str, width: int) -> str:
    scale, bias = graph.constant(np.ones(width, np.float32)), graph.constant(np.zeros(width, np.float32))
    return graph.add("LayerNormalization", x, scale, bias, epsilon=_EPSILON)


def _model(graph: _Graph, weights: Weights, *, positions: bool) -> Any:
    vocabulary, width = weights["tokens"].shape
    total, inputs = "past_sequence_length + sequence_length", ["input_ids", "attention_mask"]
    shapes = {"input_ids": ["batch", "sequence"], "attention_mask": ["batch", total]}
    if positions:
        inputs, shapes["position_ids"] = [*inputs, "position_ids"], ["batch", "sequence"]
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, shapes[name]) for name in inputs]
    returned = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", vocabulary])]
    for layer in range(_layers(weights)):
        for part in ("key", "value"):
            for values, name, length in ((given, "past_key_values", "past"), (returned, "present", total)):
                shape = ["batch", HEADS, length, width // HEADS]
                values.append(helper.make_tensor_value_info(f"{name}.{layer}.{part}", TensorProto.FLOAT, shape))
    made = helper.make_graph(graph.nodes, "decoder", given, returned, graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
