"""Tasks for tests of OpenAI's API: encoders of texts and of token ids, and their computation in the test itself."""

import zlib

import numpy as np

from gateway.model_directory import ModelDirectory, ServedModel
from registry.quality import COSINE
from schemas import headers as h
from schemas.catalog import Catalog
from schemas.errors import ModelFailed
from schemas.oip import decode_request, encode_response
from schemas.rows.catalog import Task, TensorSpec
from tests.example_rows import a_profile, a_task, a_variant, an_architecture

DIMENSIONS = 4
TEXT = TensorSpec(name="text", datatype="BYTES", shape=(-1,))
IDS = TensorSpec(name="input_ids", datatype="INT64", shape=(-1, -1))
MASK = TensorSpec(name="attention_mask", datatype="INT64", shape=(-1, -1))
VECTORS = TensorSpec(name="embedding", datatype="FP32", shape=(-1, DIMENSIONS))
COUNTS = TensorSpec(name="tokens", datatype="INT64", shape=(-1, 1))
REFUSED = "unreadable"
"""Text on which the model fails."""


def an_encoder(name: str, *inputs: TensorSpec, counts: bool = True) -> Task:
    outputs = (VECTORS, COUNTS) if counts else (VECTORS,)
    return Task(name=name, inputs=inputs or (TEXT,), outputs=outputs, measure=COSINE, measured_output="embedding")


def catalog_of_encoder(task: str, architecture: str = "hasher") -> Catalog:
    """Return a catalog with an encoder of texts that is ready."""
    variant = f"{architecture}.onnx-fp32.cpu"
    return Catalog(
        tasks={task: an_encoder(task)},
        architectures={architecture: an_architecture(architecture, task)},
        variants={variant: a_variant(variant, task)},
        profiles={variant: a_profile(variant)},
    )


def served(task: Task) -> ServedModel:
    """Return a task as a gateway serves it."""
    return ModelDirectory(Catalog(tasks={task.name: task})).seen_by(None).find(task.name)


def classifier() -> ServedModel:
    return served(a_task())


def vector_of(text: str | bytes) -> list[float]:
    """Return the vector of a text."""
    content = text.encode() if isinstance(text, str) else text
    return np.random.default_rng(zlib.crc32(content)).standard_normal(DIMENSIONS).astype(np.float32).tolist()


def encoded(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
    """Compute the vectors of a query's texts, as a worker would; each word is a token.

    Raises:
        ModelFailed: a text is `REFUSED`.
    """
    length = fields.get(h.JSON_LENGTH)
    request = decode_request(value, int(length) if length else None, (TEXT,))
    texts = request.inputs["text"].ravel().tolist()
    if REFUSED.encode() in texts:
        raise ModelFailed("the model failed on this input")
    outputs = {
        "embedding": np.array([vector_of(text) for text in texts], np.float32),
        "tokens": np.array([[len(text.split())] for text in texts], np.int64),
    }
    message = encode_response("encoder", request.id, outputs, wanted=request.outputs, binary=request.binary_output)
    headers = {h.STATUS: "ok", h.VARIANT: "hasher.onnx-fp32.cpu", h.CONTENT_TYPE: message.content_type}
    if message.json_length is not None:
        headers[h.JSON_LENGTH] = str(message.json_length)
    return message.value, headers
