"""Triton's classification extension: class scores as `score:index`, or `score:index:name` if the classes have names.

Scores are formatted as Triton formats them, because clients parse the texts.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from schemas.errors import InvalidRequest
from schemas.tensors import BF16, Array, bytes_array, datatype_of, float32_of

MAX_CLASSES: Final = 1000
"""Highest number of classes that a client may request of each row."""


def best_classes(scores: Array, count: int, names: Sequence[str], where: str) -> Array:
    """Return the classes of the `count` highest scores of each row, best first, as BYTES.

    Raises:
        InvalidRequest: `scores` has no numeric type; the message begins with `where`.
    """
    values = float32_of(scores) if scores.dtype == BF16 else scores
    if values.dtype.kind not in "fiu":
        raise InvalidRequest(f"{where}: {datatype_of(scores)} cannot be scores, so it has no classes")
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    falling = -rows if values.dtype.kind == "f" else np.invert(rows)  # same order as negation, without overflow
    best = np.argsort(falling, axis=-1, kind="stable")[:, :count]
    suffixes = [f":{name}" for name in names] if len(names) == rows.shape[1] else [""] * rows.shape[1]
    form = "%f:%d%s" if values.dtype.kind == "f" else "%d:%d%s"
    texts = [
        form % (row[index], index, suffixes[index]) for row, found in zip(rows, best, strict=True) for index in found
    ]
    return bytes_array(texts).reshape(best.shape)
