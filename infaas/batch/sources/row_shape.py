"""Shape of a row of an input, from a value with the same shape or with its elements in one flat list."""

import math
from collections.abc import Sequence

from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec


def row_shape(found: Sequence[int], spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of a row of `spec` (without the row axis) for a value of shape `found`.

    Dynamic axes (-1) take their lengths from `found`.

    Raises:
        InvalidRequest: neither the shape nor the number of elements fits.
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
