"""Tests whether inputs of different lengths may share a batch, by computing some with and without padding."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from registry.samples import Arrays, take_rows
from runtimes.padding import FACTOR, pad_to, row_size
from runtimes.processing.session import ProcessedSession
from runtimes.protocol import Session, Tensors
from schemas.rows.tensor_spec import TensorSpec

_ROWS: Final = 8
_LOOKED_AT: Final = 32
"""Number of texts from which the shortest are taken; longer ones may not leave room for padding."""
_TOLERANCE: Final = 0.01
_LOSSY_TOLERANCE: Final = 0.05
"""Shares of an output's range by which it may differ; dynamic INT8 depends more on the rest of the batch."""


def lengths_mix(session: Session, samples: Arrays, inputs: Sequence[TensorSpec], precision: str) -> bool:
    """Return true if a model with the tensors `inputs` gives padded inputs the same answers; blocks."""
    variable = {spec.name: axes for spec in inputs if (axes := variable_axes(spec))}
    if not variable or any(spec.datatype == "BYTES" for spec in inputs):
        return False
    fill: Mapping[str, int] = {}
    rows: list[Arrays] = [take_rows(samples, row, 1) for row in range(_ROWS)]
    if isinstance(session, ProcessedSession):
        (texts,) = take_rows(samples, 0, _LOOKED_AT).values()
        rows = sorted(session.prepared(texts.tolist()), key=row_size)[:_ROWS]
        fill, session = session.fill, session.model
    try:
        alone = [session.infer(row) for row in rows]
        padded = [session.infer(pad_to(row, FACTOR, variable, fill)) for row in rows]
        return all(_same(pair, precision) for pair in _by_output(alone, padded))
    except Exception:  # noqa: BLE001 - any error of the runtime means that the model does not accept this length
        return False


def variable_axes(spec: TensorSpec) -> list[int]:
    """Return the axes of variable size, without the batch."""
    return [axis for axis, size in enumerate(spec.shape) if axis and size < 0]


def _by_output(
    alone: Sequence[Tensors], padded: Sequence[Tensors]
) -> Iterator[list[tuple[NDArray[Any], NDArray[Any]]]]:
    for name in alone[0]:
        yield [(ours[name], theirs[name]) for ours, theirs in zip(alone, padded, strict=True)]


def _same(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], precision: str) -> bool:
    if any(alone.shape != padded.shape for alone, padded in pairs):
        return False
    one, other = (np.concatenate([array.reshape(-1) for array in arrays]) for arrays in zip(*pairs, strict=True))
    if one.dtype.kind != "f":
        return bool((one == other).all())
    tolerance = _TOLERANCE if precision == "fp32" else _LOSSY_TOLERANCE
    return bool(np.abs(one - other).max() <= tolerance * max(float(np.ptp(one)), 1e-9))
