"""Tests of verifying the outputs of references and variants."""

from typing import Any

import numpy as np
import pytest

from registry.pipeline.verification import (
    Accuracy,
    Judgement,
    VerifiedReference,
    malformed,
    verify_reference,
    verify_variant,
)
from registry.quality import agreement
from registry.samples import Samples
from schemas.errors import InvalidRequest
from schemas.rows.catalog import AccuracySource, TensorSpec

SPECS = (TensorSpec(name="scores", datatype="FP32", shape=(-1, 3)),)
SCORES = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
LABELS = SCORES.argmax(axis=1).astype(np.int64)
INPUTS = {"x": np.zeros((100, 1), np.float32)}
LABELLED = Samples(INPUTS, LABELS, None)
UNLABELLED = Samples(INPUTS, None, None)
ACCURACY_OF_SCORES = Judgement("accuracy", "scores")


def _wrong_on(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    scores = SCORES.copy()
    scores[:count] = -scores[:count]
    return scores


def _reference(samples: Samples, scores: np.ndarray[Any, Any], accuracy: float) -> VerifiedReference:
    source = AccuracySource.DECLARED if samples.labels is None else AccuracySource.MEASURED
    return VerifiedReference(samples, SPECS, ACCURACY_OF_SCORES, {"scores": scores}, Accuracy(accuracy, source))


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
def test_malformed_names_invalid_outputs(outputs: dict[str, Any], said: str) -> None:
    found = malformed(outputs, SPECS, 100)
    assert bool(found) == bool(said)
    if said:
        with pytest.raises(InvalidRequest, match=said):
            verify_reference(LABELLED, SPECS, ACCURACY_OF_SCORES, outputs, {}, None)


def test_verify_reference_measures_or_takes_declared_accuracy() -> None:
    measured = verify_reference(LABELLED, SPECS, ACCURACY_OF_SCORES, {"scores": _wrong_on(10)}, {}, None)
    assert measured.accuracy == Accuracy(0.9, AccuracySource.MEASURED, 100)
    declared = verify_reference(UNLABELLED, SPECS, ACCURACY_OF_SCORES, {"scores": SCORES}, {}, 0.7)
    assert declared.accuracy == Accuracy(0.7, AccuracySource.DECLARED)


def test_verify_reference_refuses_batch_dependent_outputs() -> None:
    alone = {"scores": SCORES[:4] + np.float32(1)}
    with pytest.raises(InvalidRequest, match="depends on the other inputs"):
        verify_reference(LABELLED, SPECS, ACCURACY_OF_SCORES, {"scores": SCORES}, alone, None)


@pytest.mark.parametrize(("wrong", "refused"), [(0, False), (5, False), (6, True), (60, True)])
def test_verify_variant_allows_loss_of_five_points(wrong: int, refused: bool) -> None:
    found = verify_variant(_reference(LABELLED, SCORES, 1.0), {"scores": _wrong_on(wrong)})
    assert found.accuracy.value == 1 - wrong / 100
    assert bool(found.refusal) == refused


def test_verify_variant_accepts_more_accurate_variant() -> None:
    assert not verify_variant(_reference(LABELLED, _wrong_on(50), 0.5), {"scores": SCORES}).refusal


def test_verify_variant_without_labels_uses_disagreement() -> None:
    reference = _reference(UNLABELLED, SCORES, 0.8)
    close = verify_variant(reference, {"scores": _wrong_on(3)})
    assert close.accuracy.value == pytest.approx(0.77)
    assert not close.refusal
    far = verify_variant(reference, {"scores": _wrong_on(6)})
    assert "94.0%" in far.refusal


def test_agreement_tolerates_five_percent_of_range() -> None:
    reference = np.linspace(0, 10, 100)
    assert agreement(reference + 0.4, reference) == 1.0
    assert agreement(reference + 0.6, reference) == 0.0


# -- sequences ---------------------------------------------------------------------------------------------------------
HIDDEN = TensorSpec(name="hidden", datatype="FP32", shape=(-1, -1, 3), axes=("", "sequence", ""))
REAL = np.arange(6) < np.arange(1, 7)[:, None]
STATES = np.where(REAL[:, :, None], np.random.default_rng(1).normal(size=(6, 6, 3)), 0).astype(np.float32)
TEXTS = Samples({"text": np.array([b"text"] * 6, object)}, None, None)


def _of_texts(states: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {"hidden": states, "lengths": REAL.sum(axis=1)}


def _of_tokens(states: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {"hidden": states}


MASKED = Samples({"ids": REAL.astype(np.int64), "attention_mask": REAL.astype(np.int64)}, None, None)


@pytest.mark.parametrize(("samples", "outputs"), [(TEXTS, _of_texts), (MASKED, _of_tokens)])
def test_verify_variant_compares_only_real_positions(samples: Samples, outputs: Any) -> None:
    judgement = Judgement("agreement", "hidden")
    reference = verify_reference(samples, (HIDDEN,), judgement, outputs(STATES), {})
    garbage = np.where(REAL[:, :, None], STATES, np.float32(9))
    assert verify_variant(reference, outputs(garbage)).accuracy.value == 1.0
    wrong = STATES.copy()
    wrong[5, :6] = -wrong[5, :6]
    found = verify_variant(reference, outputs(wrong))
    assert found.accuracy.value == pytest.approx(15 / 21), "one text of six, but six of 21 tokens"


def test_verify_reference_cuts_padding_of_batch() -> None:
    alone = {"hidden": STATES[:4, :4], "lengths": REAL.sum(axis=1)[:4]}
    judgement = Judgement("agreement", "hidden")
    assert verify_reference(TEXTS, (HIDDEN,), judgement, _of_texts(STATES), alone).accuracy.value == 1.0
    with pytest.raises(InvalidRequest, match="depends on the other inputs"):
        verify_reference(TEXTS, (HIDDEN,), judgement, _of_texts(STATES), alone | {"hidden": STATES[1:5, :4]})


def test_verify_reference_refuses_reference_with_other_tokens() -> None:
    others = {"hidden": STATES[:, :3], "lengths": np.full(6, 3)}
    with pytest.raises(InvalidRequest, match="divide texts into different tokens"):
        verify_reference(TEXTS, (HIDDEN,), Judgement("cosine", "hidden"), _of_texts(STATES), {}, None, others)
