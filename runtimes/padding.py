"""Inputs of different lengths in one batch: which may share it, and how they are padded. Pure.

The shorter ones of a batch are computed as if they were as long as the longest, so only those of about the same length
share one. Padding is zeros, or the number that the tokenizer pads with; a mask, where the model takes one, says what is
padding. Whether a model's answers stay the same is seen when it is registered (`registry/pipeline/measurement.py`).
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.protocol import Tensors

FACTOR: Final = 2.0
"""Most times its own size to which an input is padded."""
_SMALL: Final = 16
"""Elements up to which all inputs count as of one size."""

Arrays = dict[str, NDArray[Any]]


def row_size(tensors: Tensors) -> int:
    """Number of elements of one input's largest tensor, the batch left out."""
    return max(prod(array.shape[1:]) for array in tensors.values())


def size_bucket(size: int) -> int:
    """Number of the bucket of a size; the sizes in one bucket are at most `FACTOR` apart, but for small ones."""
    return max((size - 1) // _SMALL, 0).bit_length()


def size_groups(sizes: Sequence[int], factor: float = FACTOR) -> list[list[int]]:
    """Group indices by size, the smallest first, such that none is padded to more than `factor` times its own size."""
    groups: list[list[int]] = []
    limit = -1.0
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        if sizes[index] > limit:
            groups.append([])
            limit = sizes[index] if factor <= 1 else max(factor * sizes[index], _SMALL)
        groups[-1].append(index)
    return groups


def stack_padded(rows: Sequence[Tensors], fill: Mapping[str, int] | None = None) -> Arrays:
    """Stack inputs into a batch, each padded at its end to the largest; `fill` says by name with what, else zeros."""
    return {name: _stacked([row[name] for row in rows], (fill or {}).get(name, 0)) for name in rows[0]}


def pad_to(row: Tensors, factor: float, variable: Mapping[str, Sequence[int]], fill: Mapping[str, int]) -> Arrays:
    """Pad the `variable` axes of an input, given by name, to `factor` times their length."""
    padded: Arrays = {}
    for name, array in row.items():
        widths = [
            (0, int(size * (factor - 1)) if axis in variable.get(name, ()) else 0)
            for axis, size in enumerate(array.shape)
        ]
        padded[name] = np.pad(array, widths, constant_values=fill.get(name, 0))
    return padded


def _stacked(arrays: Sequence[NDArray[Any]], fill: int) -> NDArray[Any]:
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) == 1:
        return np.concatenate(arrays)
    largest = tuple(max(sizes) for sizes in zip(*shapes, strict=True))
    batch = np.full((sum(len(array) for array in arrays), *largest), fill, arrays[0].dtype)
    start = 0
    for array in arrays:
        batch[(slice(start, start + len(array)), *map(slice, array.shape[1:]))] = array
        start += len(array)
    return batch
