"""An input or an output, in the terms of the Open Inference Protocol."""

import msgspec


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input or output of a task, in the terms of the Open Inference Protocol."""

    name: str
    datatype: str
    """OIP datatype, e.g. `FP32`, `INT64`, `BYTES`."""
    shape: tuple[int, ...]
    """-1 is variable; the first dimension is the batch and always -1."""
    below: int | None = None
    """Bound of integers that are rows of a table, e.g. the size of a vocabulary: each is from 0 to one less."""
    longest: int | None = None
    """Most values that an axis of any length besides the batch may have, e.g. the positions that a model knows."""
