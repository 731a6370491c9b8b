"""Tensors as raw bytes: the cheapest format, for servers that do not prescribe one."""

from collections.abc import Mapping

import numpy as np

from bench.load_client.http_message import HttpRequest
from schemas.tensors import Array


def raw_body(inputs: Mapping[str, Array]) -> bytes:
    """Return the concatenated bytes of the tensors."""
    return b"".join(array.tobytes() for array in inputs.values())


def raw_request(path: str, inputs: Mapping[str, Array]) -> HttpRequest:
    """Return a request with the tensors as its body."""
    return HttpRequest(path, {"Content-Type": "application/octet-stream"}, raw_body(inputs))


def raw_output(body: bytes) -> Array:
    """Return the row of logits in a script's answer."""
    return np.frombuffer(body, np.float32).reshape(1, -1)
