"""Rows of tensors: slices and concatenation. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelFailed

Arrays = dict[str, NDArray[Any]]


def rows(tensors: Mapping[str, NDArray[Any]], start: int, count: int) -> Arrays:
    """Return `count` inputs from `start` on, as views."""
    return {name: array[start : start + count] for name, array in tensors.items()}


def one_for_each(inputs: int, outputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return the outputs after a check that there is one for each input.

    Raises:
        ValueError: an output has another number of rows.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != inputs:
            raise ValueError(f"output {name} has shape {list(array.shape)} for a batch of {inputs}")
    return dict(outputs)


def join_outputs(outputs: list[Arrays]) -> Arrays:
    """Join the outputs of the parts of one query.

    Raises:
        ModelFailed: their shapes do not fit together.
    """
    if len(outputs) == 1:
        return outputs[0]
    try:
        return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}
    except ValueError as error:
        raise ModelFailed(f"the outputs of the query's {len(outputs)} batches do not fit together: {error}") from error
