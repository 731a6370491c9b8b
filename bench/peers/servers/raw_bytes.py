"""Tensors as raw bytes, the cheapest way to ask those servers that leave the format open."""

from collections.abc import Mapping

import numpy as np

from bench.load_client.http_message import HttpRequest
from schemas.tensors import Array


def raw_body(inputs: Mapping[str, Array]) -> bytes:
    """Return the bytes of the tensors, one after the other."""
    return b"".join(array.tobytes() for array in inputs.values())


def raw_request(path: str, inputs: Mapping[str, Array]) -> HttpRequest:
    """Return a request whose body are the tensors."""
    return HttpRequest(path, {"Content-Type": "application/octet-stream"}, raw_body(inputs))


def raw_output(body: bytes) -> Array:
    """Return the row of logits that a script answered."""
    return np.frombuffer(body, np.float32).reshape(1, -1)
