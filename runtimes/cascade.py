"""Cascades: a cheap variant answers the inputs it is confident of, and a better one answers the rest.

All stages are in the memory of one worker. The first stage computes the whole batch. Its rows of low confidence form a
smaller batch for the next stage. So the time of a batch depends on its inputs: a cascade is profiled on real rows, its
cost is the mean latency, and its promise is the p99. All outputs of a row come from the same stage.
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
    """All stages of a cascade in memory; several threads may call `infer` at once."""

    def __init__(self, document: CascadeDocument, stages: Sequence[Session]) -> None:
        self._first, *self._others = stages
        self._thresholds = document.thresholds
        self._output = document.output
        self._measure = document.measure

    def infer(self, inputs: Tensors) -> Outputs:
        """Compute one batch; each row passes through the stages until one is confident, or the last has answered."""
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
        """Free all stages; call once no thread computes with them."""
        for stage in (self._first, *self._others):
            stage.close()


def with_rows(outputs: Outputs, rows: NDArray[np.intp], answers: Outputs) -> Outputs:
    """Return the outputs with some rows replaced by `answers`; the arguments are not changed.

    An output in only one of the two, e.g. a runtime's alternative name, is dropped: no task promises it.
    """
    return {name: _with_rows(array, rows, answers[name]) for name, array in outputs.items() if name in answers}


def _with_rows(array: NDArray[Any], rows: NDArray[np.intp], answers: NDArray[Any]) -> NDArray[Any]:
    if len(rows) == len(array):
        return answers
    whole = array.copy()
    whole[rows] = answers
    return whole
