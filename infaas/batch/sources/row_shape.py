"""The shape of a row as a task takes it, from the shape in which it was found: its own, or its elements in one list."""

import math
from collections.abc import Sequence

from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec


def row_shape(found: Sequence[int], spec: TensorSpec) -> tuple[int, ...]:
    """The shape of a row of `spec`, whose first axis is the rows', where `found` is that of what is there.

    Raises:
        InvalidRequest: it is not that of the task, nor are there as many elements.
    """
    wanted = spec.shape[1:]
    if len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True)):
        return tuple(found)
    elements = math.prod(found)
    known = math.prod(length for length in wanted if length >= 0)
    open_axes = sum(length < 0 for length in wanted)
    rest = elements // known if known else 0
    if len(found) <= 1 or not open_axes:
        if open_axes <= 1 and rest * known == elements and (open_axes or rest == 1):
            return tuple(rest if length < 0 else length for length in wanted)
        if elements == 1:
            return tuple(1 for _ in wanted)
    raise InvalidRequest(f"{spec.name}: a row has the shape {list(found)}; the task takes {list(wanted)}")
