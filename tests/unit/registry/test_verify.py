"""Which outputs make a variant wrong."""

from typing import Any

import numpy as np
import pytest

from registry.samples import Samples
from registry.verify import agreement, judge_reference, judge_variant, malformed
from schemas.errors import InvalidRequest
from schemas.records import TensorSpec

SPECS = (TensorSpec(name="scores", datatype="FP32", shape=(-1, 3)),)
SCORES = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
LABELS = SCORES.argmax(axis=1).astype(np.int64)
INPUTS = {"x": np.zeros((100, 1), np.float32)}
LABELLED = Samples(INPUTS, LABELS, None)
UNLABELLED = Samples(INPUTS, None, None)


def _wrong_on(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    scores = SCORES.copy()
    scores[:count] = -scores[:count]
    return scores


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({}, "no output 'scores'"),
        ({"scores": SCORES.astype(np.float64)}, "FP64 instead of FP32"),
        ({"scores": SCORES[:, :2]}, r"shape \[100, 2\]"),
        ({"scores": SCORES[:99]}, r"shape \[99, 3\] for 100 inputs"),
        ({"scores": np.where(SCORES > 2, np.float32("nan"), SCORES)}, "holds NaN"),
        ({"scores": SCORES}, ""),
    ],
)
def test_malformed_outputs_are_named(outputs: dict[str, Any], said: str) -> None:
    found = malformed(outputs, SPECS, 100)
    assert bool(found) == bool(said)
    if said:
        with pytest.raises(InvalidRequest, match=said):
            judge_reference(LABELLED, outputs, {}, SPECS, "scores", None)


def test_a_reference_has_its_measured_or_its_declared_accuracy() -> None:
    assert judge_reference(LABELLED, {"scores": _wrong_on(10)}, {}, SPECS, "scores", None).accuracy == 0.9
    assert judge_reference(UNLABELLED, {"scores": SCORES}, {}, SPECS, "scores", 0.7).accuracy == 0.7


def test_a_reference_that_mixes_its_batch_is_refused() -> None:
    alone = {"scores": SCORES[:4] + np.float32(1)}
    with pytest.raises(InvalidRequest, match="depends on the other inputs"):
        judge_reference(LABELLED, {"scores": SCORES}, alone, SPECS, "scores", None)


@pytest.mark.parametrize(("wrong", "refused"), [(0, False), (5, False), (6, True), (60, True)])
def test_five_points_of_accuracy_may_be_lost(wrong: int, refused: bool) -> None:
    reference = {"scores": SCORES}
    verdict = judge_variant(LABELLED, {"scores": _wrong_on(wrong)}, reference, 1.0, SPECS, "scores")
    assert verdict.accuracy == 1 - wrong / 100
    assert bool(verdict.refused) == refused


def test_a_better_variant_is_no_fault() -> None:
    assert not judge_variant(LABELLED, {"scores": SCORES}, {"scores": _wrong_on(50)}, 0.5, SPECS, "scores").refused


def test_without_labels_disagreement_lowers_the_declared_accuracy_and_then_refuses() -> None:
    reference = {"scores": SCORES}
    close = judge_variant(UNLABELLED, {"scores": _wrong_on(3)}, reference, 0.8, SPECS, "scores")
    assert close.accuracy == pytest.approx(0.77)
    assert not close.refused
    far = judge_variant(UNLABELLED, {"scores": _wrong_on(6)}, reference, 0.8, SPECS, "scores")
    assert "94.0%" in far.refused


def test_values_agree_within_five_percent_of_their_range() -> None:
    reference = np.linspace(0, 10, 100)
    assert agreement(reference + 0.4, reference) == 1.0
    assert agreement(reference + 0.6, reference) == 0.0
