"""Whether inputs of different lengths may share a batch: seen by computing some padded and not."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from registry.samples import Arrays, take_rows
from runtimes.padding import FACTOR, pad_to, row_size
from runtimes.processing.session import ProcessedSession
from runtimes.protocol import Session, Tensors
from schemas.rows.tensor_spec import TensorSpec

_ROWS: Final = 8
_LOOKED_AT: Final = 32
"""Texts of which the shortest are padded: the longest may be as long as the model takes any."""
TOLERANCE: Final = 1e-2
"""Share of the range of an output by which it may differ, which is what rounding in few bits makes of it."""


def lengths_mix(session: Session, samples: Arrays, inputs: Sequence[TensorSpec]) -> bool:
    """Whether a model with the tensors `inputs` answers padded inputs as it answers them without; blocks."""
    variable = {spec.name: axes for spec in inputs if (axes := _variable_axes(spec))}
    if not variable or any(spec.datatype == "BYTES" for spec in inputs):
        return False
    fill: Mapping[str, int] = {}
    rows: list[Arrays] = [take_rows(samples, row, 1) for row in range(_ROWS)]
    if isinstance(session, ProcessedSession):
        (texts,) = take_rows(samples, 0, _LOOKED_AT).values()
        rows = sorted(session.prepared(texts.tolist()), key=row_size)[:_ROWS]
        fill, session = session.fill, session.model
    try:
        return all(_same(session.infer(row), session.infer(pad_to(row, FACTOR, variable, fill))) for row in rows)
    except Exception:  # noqa: BLE001 - what a runtime raises of a length that the model does not take
        return False


def _variable_axes(spec: TensorSpec) -> list[int]:
    return [axis for axis, size in enumerate(spec.shape) if axis and size < 0]


def _same(alone: Tensors, padded: Tensors) -> bool:
    return all(
        array.shape == padded[name].shape
        and np.allclose(array, padded[name], rtol=TOLERANCE, atol=TOLERANCE * float(np.abs(array).max()))
        for name, array in alone.items()
    )
