"""The confidence of a model in each of its answers, from its own outputs. Pure.

A confidence is what the model says, and no more: how often it is right at which confidence is found out on labelled
rows (`registry.composites.calibration`). What is NaN is sure of nothing.
"""

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ConfidenceMeasure(StrEnum):
    """How the confidence follows from an output."""

    SOFTMAX = "softmax"
    """The output holds logits: the probability of the likeliest class."""
    PROBABILITY = "probability"
    """The output holds probabilities: the largest."""
    VALUE = "value"
    """The output is the confidence, one number for each row."""


def confidence_of(output: NDArray[Any], measure: ConfidenceMeasure) -> NDArray[np.float64]:
    """Confidence of each row; of a row with several answers, as one for each word, that of the least sure.

    A single score is that of the one class of two: a probability, or the logit of one.
    """
    rows = len(output)
    if measure is ConfidenceMeasure.VALUE:
        return output.reshape(rows, -1).min(axis=1).astype(np.float64)
    scores = output.reshape(rows, -1, output.shape[-1] if output.ndim > 1 else 1).astype(np.float64)
    likeliest = _softmax_max(scores) if measure is ConfidenceMeasure.SOFTMAX else _probability_max(scores)
    return likeliest.min(axis=1)


def unsure_rows(output: NDArray[Any], measure: ConfidenceMeasure, threshold: float) -> NDArray[np.intp]:
    """Indices of the rows whose confidence is below the threshold, or is no number."""
    return np.flatnonzero(~(confidence_of(output, measure) >= threshold))


def guess_measure(output: NDArray[Any]) -> ConfidenceMeasure:
    """The measure that fits scores as a model gave them: probabilities are 0..1 and add up to 1."""
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
