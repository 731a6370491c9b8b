"""Cascades: a cheap variant answers what it is sure of, a better one the rest.

All stages are in the memory of one worker. A batch is computed by the first stage as a whole; of what it is not sure of
a smaller batch is made for the next. So a batch takes as long as its inputs need: a cascade is profiled on real rows,
its mean is what it costs and its p99 what is promised of it. Each row's answer is, whole, that of one stage.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.composite import CascadeDocument
from runtimes.confidence import unsure_rows
from runtimes.protocol import Session, Tensors

Outputs = dict[str, NDArray[np.generic]]


class CascadeSession:
    """All stages of a cascade in memory; `infer` may be called by several threads at once."""

    def __init__(self, document: CascadeDocument, stages: Sequence[Session]) -> None:
        self._first, *self._others = stages
        self._thresholds = document.thresholds
        self._output = document.output
        self._measure = document.measure

    def infer(self, inputs: Tensors) -> Outputs:
        """Compute one batch, each row by as many stages as it takes until one is sure, or the last has answered."""
        answers = merged = self._first.infer(inputs)
        rows = np.arange(len(answers[self._output]))
        for stage, threshold in zip(self._others, self._thresholds, strict=True):
            rows = rows[unsure_rows(answers[self._output], self._measure, threshold)]
            if not len(rows):
                break
            answers = stage.infer({name: array[rows] for name, array in inputs.items()})
            merged = with_rows(merged, rows, answers)
        return merged

    def close(self) -> None:
        """Free all stages once no thread computes with them any more."""
        for stage in (self._first, *self._others):
            stage.close()


def with_rows(outputs: Outputs, rows: NDArray[np.intp], answers: Outputs) -> Outputs:
    """Put the answers of some rows in the place of those that were there; the arrays given are left as they are.

    An output that only one of the two has, as a runtime's other name for it, is left out: no task promises it.
    """
    return {name: _with_rows(array, rows, answers[name]) for name, array in outputs.items() if name in answers}


def _with_rows(array: NDArray[Any], rows: NDArray[np.intp], answers: NDArray[Any]) -> NDArray[Any]:
    if len(rows) == len(array):
        return answers
    whole = array.copy()
    whole[rows] = answers
    return whole
