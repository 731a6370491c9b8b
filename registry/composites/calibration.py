"""Calibrates the threshold of a cascade on labelled rows: its accuracy and the share that it escalates. Pure.

A model's confidence is rarely the probability that it is right, so a threshold alone predicts nothing. Each threshold
is therefore tried on labelled rows. The accuracy in the profile is measured on other rows: the best of many thresholds
looks better than it is on the rows that selected it. If the same file measured the stages, the same rows measure the
composite, so their accuracies can be compared.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.quality import TEXT_MEASURES, right_texts
from registry.samples import Arrays, Samples, read_samples
from registry.signature import Signature
from runtimes.answer_outputs import MEAN_LOGPROB
from runtimes.composite import ConfidenceMeasure, confidence_of, guess_measure
from runtimes.processing.outputs import LENGTHS
from schemas.errors import InvalidRequest
from schemas.generation import TEXT_OUTPUT
from schemas.registrations import CascadePoint
from schemas.rows.catalog import Task, TensorSpec

_EVERY: Final = 1 << 40
_FEWEST: Final = 100
_DIGITS: Final = 3
_MOST_POINTS: Final = 400
_GAINS: Final = (0.6, 0.85, 0.97)
"""Shares of the second stage's gain in accuracy that the default thresholds keep."""


class LabelledRows(msgspec.Struct, frozen=True):
    """Rows with the class of each, or its right text."""

    inputs: Arrays
    labels: NDArray[Any]

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
    scores = Signature(inputs=task.inputs, outputs=task.outputs).output(output)
    if scores.sequences and any(spec.name == LENGTHS for spec in task.outputs):
        raise InvalidRequest(f"{scores.name} answers each token, but a cascade needs one answer for each text")
    return scores


def cascade_curve(
    confidence: NDArray[np.float64], first_right: NDArray[np.bool_], then_right: NDArray[np.bool_]
) -> list[CascadePoint]:
    """Return the point of each threshold that separates rows; higher thresholds escalate more.

    Args:
        confidence: confidence of the first stage, for each row.
        first_right: true where the first stage is right.
        then_right: true where the second stage is right.
    """
    return [cascade_point(float(t), confidence, first_right, then_right) for t in _thresholds(confidence)]


def cascade_point(
    threshold: float, confidence: NDArray[np.float64], first_right: NDArray[np.bool_], then_right: NDArray[np.bool_]
) -> CascadePoint:
    """Return the point of one threshold: its escalated share and its accuracy."""
    unsure = ~(confidence >= threshold)
    right = np.where(unsure, then_right, first_right)
    return CascadePoint(threshold, float(unsure.mean()), float(right.mean()))


def point_for(curve: Sequence[CascadePoint], min_accuracy: float) -> CascadePoint:
    """Return the point that escalates least among the accurate ones.

    Raises:
        InvalidRequest: no point reaches `min_accuracy`.
    """
    enough = [point for point in curve if point.accuracy >= min_accuracy]
    if not enough:
        best = max(curve, key=lambda point: point.accuracy)
        raise InvalidRequest(
            f"no threshold reaches an accuracy of {min_accuracy:g}: the best is {best.threshold:g} with "
            f"{best.accuracy:.4f}; lower the accuracy, or use a better second stage"
        )
    return min(enough, key=lambda point: (point.escalated, point.threshold))


def default_points(curve: Sequence[CascadePoint], first_accuracy: float, then_accuracy: float) -> list[CascadePoint]:
    """Return points from cheap to accurate; each keeps a share of the second stage's gain."""
    wanted = (first_accuracy + gain * (then_accuracy - first_accuracy) for gain in _GAINS)
    best = max(point.accuracy for point in curve)
    found = {point_for(curve, min(accuracy, best)) for accuracy in wanted}
    return sorted(found, key=lambda point: point.threshold)


def right_rows(measure: str, outputs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each row whether the class with the largest score is right, or the text of a language model."""
    return right_texts(measure, outputs, labels) if measure in TEXT_MEASURES else outputs.argmax(axis=1) == labels


def guess_confidence(scores: str, outputs: Arrays) -> tuple[str, ConfidenceMeasure]:
    """Return the output that gives the confidence, and its measure: of texts their mean log-probability."""
    if scores == TEXT_OUTPUT:
        return MEAN_LOGPROB, ConfidenceMeasure.LOGPROB
    return scores, guess_measure(outputs[scores])


def stage_confidence(outputs: Arrays, output: str, measure: ConfidenceMeasure) -> NDArray[np.float64]:
    """Return the confidence of each row in the outputs of a stage; an empty text has none."""
    confidence = confidence_of(outputs[output], measure)
    if measure is ConfidenceMeasure.LOGPROB:
        confidence[outputs[TEXT_OUTPUT].reshape(-1) == b""] = 0.0
    return confidence


def threshold_label(threshold: float) -> str:
    """Return the part of a variant's name for its threshold, e.g. `t850`."""
    return f"t{round(threshold * 10**_DIGITS):03d}"


def _thresholds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return thresholds of three digits, evenly over the rows; each escalates other rows than the one before."""
    finite = confidence[np.isfinite(confidence)]
    quantiles = np.quantile(finite, np.linspace(0.0, 1.0, _MOST_POINTS)) if len(finite) else np.ones(1)
    scale = 10.0**_DIGITS
    return np.unique(np.clip(np.ceil(quantiles * scale), 1, scale)) / scale
