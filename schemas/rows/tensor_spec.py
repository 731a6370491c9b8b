"""Specification of an input or output tensor, in the terms of the Open Inference Protocol."""

import msgspec


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
