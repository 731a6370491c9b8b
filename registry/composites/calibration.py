"""Calibrates the threshold of a cascade on labelled rows: its accuracy and the share that it escalates. Pure.

A model's confidence is rarely the probability that it is right, so a threshold alone predicts nothing. Each threshold
is therefore tried on labelled rows. The accuracy in the profile is measured on other rows: the best of many thresholds
looks better than it is on the rows that selected it.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidRequest
from schemas.registrations import CascadePoint

_DIGITS: Final = 3
_MOST_POINTS: Final = 400
_GAINS: Final = (0.6, 0.85, 0.97)
"""Shares of the second stage's gain in accuracy that the default thresholds keep."""


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
    threshold: float,
    confidence: NDArray[np.float64],
    first_right: NDArray[np.bool_],
    then_right: NDArray[np.bool_],
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


def right_rows(scores: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each row whether the class with the largest score is right."""
    return scores.argmax(axis=1) == labels


def threshold_label(threshold: float) -> str:
    """Return the part of a variant's name for its threshold, e.g. `t850`."""
    return f"t{round(threshold * 10**_DIGITS):03d}"


def _thresholds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return thresholds of three digits, evenly over the rows; each escalates other rows than the one before."""
    finite = confidence[np.isfinite(confidence)]
    quantiles = np.quantile(finite, np.linspace(0.0, 1.0, _MOST_POINTS)) if len(finite) else np.ones(1)
    scale = 10.0**_DIGITS
    return np.unique(np.clip(np.ceil(quantiles * scale), 1, scale)) / scale
