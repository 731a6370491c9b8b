"""The number of inputs that a request of some bytes can hold at most, by the signature of its task.

Nothing of the request is parsed, so a selector can tell of a record that its header claims too many. A number takes a
byte at least, in JSON as well as in binary form, since whole numbers of eight bits are cast to whatever a model takes;
an element of BYTES takes three, quotes and a comma. An axis of any length besides the batch counts as one.

An honest request is never shorter than that; one that claims as much as its bytes can hold costs its sender as many
bytes as if it held them, and the worker, which counts what there is, refuses it.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Final

from schemas import headers as h
from schemas.oip import is_plain
from schemas.rows.tensor_spec import TensorSpec

_LEAST_TEXT: Final = 3
"""Bytes of an element of BYTES in JSON; in binary form its length alone takes four."""


def most_inputs(specs: tuple[TensorSpec, ...], fields: Mapping[str, str], size: int) -> int:
    """The most inputs in a request of `size` bytes with these headers; at least 1, so that the worker says why not."""
    if is_plain(fields.get(h.CONTENT_TYPE, ""), specs):
        return 1
    return max(size // _least_bytes(specs), 1)


@lru_cache(maxsize=1024)
def _least_bytes(specs: tuple[TensorSpec, ...]) -> int:
    """The fewest bytes that an input takes."""
    return max(sum(_elements(spec) * (_LEAST_TEXT if spec.datatype == "BYTES" else 1) for spec in specs), 1)


def _elements(spec: TensorSpec) -> int:
    """The fewest elements of a tensor that belong to one input."""
    return prod(max(length, 1) for length in spec.shape[1:])
