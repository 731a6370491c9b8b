"""Splits the labelled rows of a composite's registration: some calibrate it, others measure it.

If the same file measured the stages, the same rows measure the composite, so their accuracies can be compared.
"""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.samples import Arrays, Samples, read_samples
from registry.signature import Signature
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Task, TensorSpec

_EVERY: Final = 1 << 40
_FEWEST: Final = 100


class LabelledRows(msgspec.Struct, frozen=True):
    """Rows with the class of each."""

    inputs: Arrays
    labels: NDArray[np.int64]

    def part(self, start: int, stop: int) -> "LabelledRows":
        """Return the rows from `start` to `stop`."""
        return LabelledRows({name: array[start:stop] for name, array in self.inputs.items()}, self.labels[start:stop])

    def __len__(self) -> int:
        return len(self.labels)


class RowSplit(msgspec.Struct, frozen=True):
    """Disjoint rows for calibration and for measurement."""

    calibrating: LabelledRows
    measuring: LabelledRows

    @property
    def samples(self) -> Samples:
        """Rows that measure, in the form of a registration."""
        return Samples(self.measuring.inputs, self.measuring.labels, None)


def read_rows(task: Task, scores: TensorSpec, validation: Path, calibration: Path | None, limit: int) -> RowSplit:
    """Read the labelled file of a task; blocks.

    Args:
        task: task of the composite.
        scores: output that holds the scores of the classes.
        validation: `.npz` with an array per input, and `label`.
        calibration: file that calibrated the stages, if there was one; then no row of `validation` calibrated them.
        limit: most rows for each purpose.

    Raises:
        OperatorError: a file cannot be read.
        InvalidRequest: an array is missing or does not fit the task, or there are too few rows.
    """
    signature = Signature(inputs=task.inputs, outputs=task.outputs)
    samples = read_samples(signature, validation, calibration, scores, _EVERY, classes=task.classes)
    assert samples.labels is not None, "a labelled file was given"
    rows = LabelledRows(samples.inputs, samples.labels)
    if len(rows) < 2 * _FEWEST:
        raise InvalidRequest(
            f"{validation.name} has {len(rows)} usable labelled rows; at least {2 * _FEWEST} are needed, half of them "
            "to calibrate the threshold and half to measure the accuracy"
        )
    measuring = min(limit, len(rows) - _FEWEST) if len(rows) >= limit + _FEWEST else len(rows) // 2
    return RowSplit(rows.part(measuring, measuring + limit), rows.part(0, measuring))


def scores_of(task: Task, output: str | None) -> TensorSpec:
    """Return the output of a task that holds the scores: the named or the only one; raises `InvalidRequest`."""
    return Signature(inputs=task.inputs, outputs=task.outputs).output(output)
