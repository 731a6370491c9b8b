"""Inputs of different lengths in one batch: grouping by length, and padding. Pure.

The shorter inputs of a batch take as long as the longest, so only inputs of about the same length share one. Padding is
zeros, or the tokenizer's padding id; if the model takes a mask, it marks the padding. Outputs along a padded axis are
cut to the length of each input again. Registration tests that a model's answers do not depend on padding
(`registry/pipeline/measurement.py`).
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtimes.protocol import Tensors
from schemas.signature import TensorSpec

FACTOR: Final = 2.0
"""Largest factor by which padding may extend an input."""
_SMALL: Final = 16
"""Number of elements up to which all inputs count as equally large."""

Arrays = dict[str, NDArray[Any]]


def row_size(tensors: Tensors) -> int:
    """Return the number of elements of one input's largest tensor, without the batch dimension."""
    return max(prod(array.shape[1:]) for array in tensors.values())


def size_bucket(size: int) -> int:
    """Return the bucket number of a size; sizes in one bucket differ by at most `FACTOR`, except small ones."""
    return max((size - 1) // _SMALL, 0).bit_length()


def size_groups(sizes: Sequence[int], factor: float = FACTOR) -> list[list[int]]:
    """Group indices by size, smallest first, so that no input is padded to more than `factor` times its size."""
    groups: list[list[int]] = []
    limit = -1.0
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        if sizes[index] > limit:
            groups.append([])
            limit = sizes[index] if factor <= 1 else max(factor * sizes[index], _SMALL)
        groups[-1].append(index)
    return groups


def stack_padded(rows: Sequence[Tensors], fill: Mapping[str, int] | None = None) -> Arrays:
    """Stack inputs into a batch, each padded at its end to the largest; `fill` gives padding values other than 0."""
    return {name: _stacked([row[name] for row in rows], (fill or {}).get(name, 0)) for name in rows[0]}


def join_rows(parts: Sequence[Tensors], specs: Sequence[TensorSpec]) -> Arrays:
    """Join outputs, by row; sequences are padded at their end to the longest, by zeros or empty texts.

    Raises:
        ValueError: the shapes of another output differ.
    """
    if len(parts) == 1:
        return dict(parts[0])
    sequences = {spec.name: set(spec.sequences.values()) for spec in specs}
    joined: Arrays = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        others = {
            tuple(size for axis, size in enumerate(array.shape) if axis and axis not in sequences.get(name, ()))
            for array in arrays
        }
        if len(others) > 1:
            shown = " and ".join(str(list(array.shape[1:])) for array in arrays[:2])
            raise ValueError(f"the shape of output {name!r} depends on the input ({shown}): send one input in a query")
        joined[name] = _stacked(arrays, b"" if arrays[0].dtype.kind == "O" else 0)
    return joined


def axis_sizes(specs: Sequence[TensorSpec], tensors: Tensors) -> dict[str, int]:
    """Return the sizes of the named axes of some tensors; of axes with one name the largest, so that no output is cut.

    Registration gives one name to the unnamed axes of several inputs, whose sizes may differ.
    """
    sizes: dict[str, int] = {}
    for spec in specs:
        for name, axis in spec.sequences.items() if spec.name in tensors else ():
            sizes[name] = max(sizes.get(name, 0), tensors[spec.name].shape[axis])
    return sizes


def cut_to(outputs: Tensors, specs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> Arrays:
    """Return the outputs with their named axes cut to these sizes, which takes off padding; other axes stay."""
    cut = dict(outputs)
    for spec in specs:
        for name, axis in spec.sequences.items():
            if spec.name in cut and name in sizes:
                cut[spec.name] = cut[spec.name][(*[slice(None)] * axis, slice(sizes[name]))]
    return cut


def pad_to(row: Tensors, factor: float, variable: Mapping[str, Sequence[int]], fill: Mapping[str, int]) -> Arrays:
    """Pad the `variable` axes of an input, by tensor name, to `factor` times their length."""
    padded: Arrays = {}
    for name, array in row.items():
        widths = [
            (0, int(size * (factor - 1)) if axis in variable.get(name, ()) else 0)
            for axis, size in enumerate(array.shape)
        ]
        padded[name] = np.pad(array, widths, constant_values=fill.get(name, 0))
    return padded


def _stacked(arrays: Sequence[NDArray[Any]], fill: int | bytes) -> NDArray[Any]:
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
