"""Calibrates the threshold of a cascade: on labelled rows, how accurate it is and how much it escalates. Pure.

A model's confidence is rarely the probability that it is right, so no threshold says by itself what it gives. Here each
is tried on rows whose labels are known. What is then promised of the cascade is measured on other rows: the best of
many thresholds looks better on the rows that chose it than it is.
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
"""Shares of the accuracy that the second stage adds which the default thresholds keep."""


def cascade_curve(
    confidence: NDArray[np.float64], first_right: NDArray[np.bool_], then_right: NDArray[np.bool_]
) -> list[CascadePoint]:
    """What each threshold that tells rows apart gives; the higher ones escalate more.

    Args:
        confidence: the first stage's, of each row.
        first_right: whether its answer is right.
        then_right: whether the second stage's is.
    """
    return [cascade_point(float(t), confidence, first_right, then_right) for t in _thresholds(confidence)]


def cascade_point(
    threshold: float,
    confidence: NDArray[np.float64],
    first_right: NDArray[np.bool_],
    then_right: NDArray[np.bool_],
) -> CascadePoint:
    """What one threshold gives."""
    unsure = ~(confidence >= threshold)
    right = np.where(unsure, then_right, first_right)
    return CascadePoint(threshold, float(unsure.mean()), float(right.mean()))


def point_for(curve: Sequence[CascadePoint], min_accuracy: float) -> CascadePoint:
    """The point that escalates least of those that are accurate enough.

    Raises:
        InvalidRequest: none is.
    """
    enough = [point for point in curve if point.accuracy >= min_accuracy]
    if not enough:
        best = max(curve, key=lambda point: point.accuracy)
        raise InvalidRequest(
            f"no threshold reaches an accuracy of {min_accuracy:g}: the best is {best.threshold:g} with "
            f"{best.accuracy:.4f}; ask for less, or for a better second stage"
        )
    return min(enough, key=lambda point: (point.escalated, point.threshold))


def default_points(curve: Sequence[CascadePoint], first_accuracy: float, then_accuracy: float) -> list[CascadePoint]:
    """Points from cheap to accurate, each of which keeps a share of what the second stage adds."""
    wanted = (first_accuracy + gain * (then_accuracy - first_accuracy) for gain in _GAINS)
    best = max(point.accuracy for point in curve)
    found = {point_for(curve, min(accuracy, best)) for accuracy in wanted}
    return sorted(found, key=lambda point: point.threshold)


def right_rows(scores: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the class with the largest score is the right one, of each row."""
    return scores.argmax(axis=1) == labels


def threshold_label(threshold: float) -> str:
    """The part of a variant's name that says its threshold, e.g. `t850`."""
    return f"t{round(threshold * 10**_DIGITS):03d}"


def _thresholds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds of three digits, each of which escalates other rows than the one before, evenly over the rows."""
    finite = confidence[np.isfinite(confidence)]
    quantiles = np.quantile(finite, np.linspace(0.0, 1.0, _MOST_POINTS)) if len(finite) else np.ones(1)
    scale = 10.0**_DIGITS
    return np.unique(np.clip(np.ceil(quantiles * scale), 1, scale)) / scale
