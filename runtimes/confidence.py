"""Confidence of a model in each of its answers, computed from its outputs. Pure.

The confidence is the model's own estimate. Calibration on labelled rows finds the share of right answers at each
confidence (`registry.composites.calibration`). NaN counts as no confidence.
"""

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ConfidenceMeasure(StrEnum):
    """Computation of the confidence from an output."""

    SOFTMAX = "softmax"
    """The output holds logits: the probability of the most likely class."""
    PROBABILITY = "probability"
    """The output holds probabilities: the largest one."""
    VALUE = "value"
    """The output is the confidence: one number per row."""


def confidence_of(output: NDArray[Any], measure: ConfidenceMeasure) -> NDArray[np.float64]:
    """Return the confidence of each row; of a row with several answers, e.g. one per word, the lowest one.

    A single score belongs to one of two classes: it is a probability, or a logit.
    """
    rows = len(output)
    if measure is ConfidenceMeasure.VALUE:
        return output.reshape(rows, -1).min(axis=1).astype(np.float64)
    scores = output.reshape(rows, -1, output.shape[-1] if output.ndim > 1 else 1).astype(np.float64)
    likeliest = _softmax_max(scores) if measure is ConfidenceMeasure.SOFTMAX else _probability_max(scores)
    return likeliest.min(axis=1)


def unsure_rows(output: NDArray[Any], measure: ConfidenceMeasure, threshold: float) -> NDArray[np.intp]:
    """Return the indices of the rows whose confidence is below the threshold or NaN."""
    return np.flatnonzero(~(confidence_of(output, measure) >= threshold))


def guess_measure(output: NDArray[Any]) -> ConfidenceMeasure:
    """Guess the measure from a model's scores: probabilities are in 0..1 and add up to 1."""
    sums = output.sum(axis=-1) if output.ndim > 1 and output.shape[-1] > 1 else np.ones(len(output))
    is_probability = bool(np.all(output >= 0) and np.all(output <= 1) and np.allclose(sums, 1.0, atol=1e-2))
    return ConfidenceMeasure.PROBABILITY if is_probability else ConfidenceMeasure.SOFTMAX


def _softmax_max(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    if logits.shape[-1] == 1:
        return 1.0 / (1.0 + np.exp(-np.abs(logits[..., 0])))
    return 1.0 / np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1)


def _probability_max(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    if probabilities.shape[-1] == 1:
        return np.maximum(probabilities, 1.0 - probabilities)[..., 0]
    return probabilities.max(axis=-1)
