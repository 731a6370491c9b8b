"""Upper limit of the inputs that a request of a given size can contain, by the signature of its task.

A selector uses it to detect records whose header claims too many inputs, without parsing the value. The limit assumes
the smallest encoding. A number takes at least one byte in JSON and in binary form, because 8-bit integers are cast to
any type. An element of BYTES takes at least three bytes: quotes and comma. A variable axis besides the batch counts as
1.

A valid request is never shorter. A request that claims as many inputs as its bytes can contain costs its sender those
bytes, and the worker, which counts the inputs, refuses it.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Final

from schemas import headers as h
from schemas.oip import is_plain
from schemas.rows.tensor_spec import TensorSpec

_LEAST_TEXT: Final = 3
"""Bytes of an element of BYTES in JSON; in binary form the length prefix alone takes four."""


def most_inputs(specs: tuple[TensorSpec, ...], fields: Mapping[str, str], size: int) -> int:
    """Return the maximum number of inputs in a request of `size` bytes with these headers.

    The result is at least 1, so that an empty request reaches the worker, which explains the error.
    """
    if is_plain(fields.get(h.CONTENT_TYPE, ""), specs):
        return 1
    return max(size // _least_bytes(specs), 1)


@lru_cache(maxsize=1024)
def _least_bytes(specs: tuple[TensorSpec, ...]) -> int:
    """Return the minimum number of bytes of an input."""
    return max(sum(_elements(spec) * (_LEAST_TEXT if spec.datatype == "BYTES" else 1) for spec in specs), 1)


def _elements(spec: TensorSpec) -> int:
    """Return the minimum number of a tensor's elements for one input."""
    return prod(max(length, 1) for length in spec.shape[1:])
