"""Signature of a model: specifications of its tensors, and the content types of the values that it reads.

It builds no tensors, so that a process that only forwards queries imports no numpy.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
_PLAIN: Final = ("text/", "image/")


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Input or output of a task, in the terms of the Open Inference Protocol."""

    name: str
    datatype: str
    """OIP datatype, e.g. `FP32`, `INT64`, `BYTES`."""
    shape: tuple[int, ...]
    """Dimensions; -1 is variable. The first one is the batch and always -1."""
    below: int | None = None
    """Exclusive upper bound of integers that index a table, e.g. the size of a vocabulary; the lower bound is 0."""
    longest: int | None = None
    """Maximum length of a variable axis besides the batch, e.g. the number of positions of a language model."""
    axes: tuple[str, ...] = ()
    """Names of the dimensions: those of one name have one size in a query, as the length of a sequence. An empty name:
    the size is fixed, or unlike any other. Empty: all names are."""
    parameter: bool = False
    """True for an input with one value for a whole query, e.g. a sampling rate; within the system it has one a row."""
    default: bool | int | float | None = None
    """Value of a parameter that a query leaves out."""

    @property
    def sequences(self) -> dict[str, int]:
        """Axes of variable length besides the batch, by their name."""
        return {name: axis for axis, name in enumerate(self.axes) if name}


def is_plain(content_type: str, signature: Sequence[TensorSpec]) -> bool:
    """Return true if a value of this type is not a request but the content of the model's only BYTES input."""
    return len(signature) == 1 and signature[0].datatype == "BYTES" and content_type.lower().startswith(_PLAIN)
