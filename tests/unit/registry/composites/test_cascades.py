"""Tests of cascades: thresholds, curves and proposals."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from registry.composites.calibration import (
    LabelledRows,
    cascade_curve,
    cascade_point,
    default_points,
    point_for,
    threshold_label,
)
from registry.composites.cascades import calibrate, check_cascadable
from registry.composites.proposals import StageRecord, propose_cascades
from registry.request import CascadeRequest
from registry.samples import Arrays
from runtimes.composite import ConfidenceMeasure
from schemas.errors import InvalidRequest
from schemas.generation import INPUTS, OUTPUTS
from schemas.registrations import CascadePoint
from schemas.tensors import bytes_array
from tests.example_rows import a_task

ROWS = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans(), st.booleans()), min_size=1, max_size=50)


def test_cascade_point_escalates_rows_below_threshold() -> None:
    confidence = np.array([0.5, 0.7, 0.9, 0.99])
    first, then = np.array([False, False, True, True]), np.array([True, True, True, False])
    assert cascade_point(0.9, confidence, first, then) == CascadePoint(0.9, 0.5, 1.0)
    assert cascade_point(0.6, confidence, first, then) == CascadePoint(0.6, 0.25, 0.75)
    assert cascade_point(1.0, confidence, first, then) == CascadePoint(1.0, 1.0, 0.75)


@given(ROWS)
def test_cascade_curve_is_monotonic_and_matches_rows(rows: list[tuple[float, bool, bool]]) -> None:
    confidence, first, then = (np.array(column) for column in zip(*rows, strict=True))
    curve = cascade_curve(confidence, first, then)
    assert [p.threshold for p in curve] == sorted({p.threshold for p in curve})
    assert all(0 < p.threshold <= 1 for p in curve)
    assert [p.escalated for p in curve] == sorted(p.escalated for p in curve)
    for point in curve:
        answers = [then_ if c < point.threshold else first_ for c, first_, then_ in rows]
        assert point.accuracy == pytest.approx(np.mean(answers))


@given(ROWS, st.floats(0.0, 1.0))
def test_point_for_escalates_least_at_minimum_accuracy(rows: list[tuple[float, bool, bool]], minimum: float) -> None:
    confidence, first, then = (np.array(column) for column in zip(*rows, strict=True))
    curve = cascade_curve(confidence, first, then)
    if all(point.accuracy < minimum for point in curve):
        with pytest.raises(InvalidRequest, match="no threshold reaches"):
            point_for(curve, minimum)
        return
    found = point_for(curve, minimum)
    assert found.accuracy >= minimum
    assert all(point.escalated >= found.escalated for point in curve if point.accuracy >= minimum)


def test_default_points_are_ordered_from_cheap_to_accurate() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1.0, 4000)
    first = random.random(4000) < confidence
    then = first | (random.random(4000) < 0.8)
    points = default_points(cascade_curve(confidence, first, then), float(first.mean()), float(then.mean()))
    assert len(points) == 3
    assert [p.escalated for p in points] == sorted(p.escalated for p in points)
    assert points[0].accuracy < points[1].accuracy < points[2].accuracy <= then.mean()


def test_threshold_label_contains_digits() -> None:
    assert [threshold_label(t) for t in (0.7, 0.995, 1.0, 0.05)] == ["t700", "t995", "t1000", "t050"]


def record(name: str, input_s: float, accuracy: float, *, knows: bool = True) -> StageRecord:
    """Return a variant that is right on the first rows; if `knows`, it is confident only of them."""
    right = np.arange(1000) < 1000 * accuracy
    return StageRecord(name, input_s, right, np.where(right & knows, 0.95, 0.55))


def test_propose_cascades_finds_cheaper_equally_accurate_cascade() -> None:
    proposals = propose_cascades([record("small", 0.001, 0.8), record("large", 0.010, 0.9)])
    assert [(p.first, p.then, p.beats) for p in proposals] == [("small", "large", "large")]
    assert proposals[0].point.escalated == pytest.approx(0.2)
    assert proposals[0].point.accuracy == pytest.approx(0.9)
    assert proposals[0].input_s == pytest.approx(0.001 + 0.2 * 0.010, rel=0.05)
    assert proposals[0].saving == pytest.approx(0.7, abs=0.01)


def test_propose_cascades_requires_calibrated_confidence() -> None:
    assert propose_cascades([record("small", 0.001, 0.8, knows=False), record("large", 0.010, 0.9)]) == ()


def test_propose_cascades_omits_small_savings_and_slow_variants() -> None:
    assert propose_cascades([record("small", 0.008, 0.8), record("large", 0.010, 0.9)]) == ()
    proposals = propose_cascades([record("small", 0.001, 0.8), record("large", 0.010, 0.9), record("slow", 0.1, 0.9)])
    assert [p.beats for p in proposals] == ["large"]


@pytest.mark.parametrize("measure", ["1-nrmse", "f1", "agreement"])
def test_check_cascadable_requires_accuracy_by_right_answers(measure: str) -> None:
    check_cascadable(a_task())
    with pytest.raises(InvalidRequest, match=f"is measured by {measure}"):
        check_cascadable(replace(a_task(), measure=measure))


def test_check_cascadable_requires_right_texts_of_generative_task() -> None:
    task = replace(a_task(), inputs=INPUTS, outputs=OUTPUTS)
    for measure in ("contains", "exact-match"):
        check_cascadable(replace(task, measure=measure))
    with pytest.raises(InvalidRequest, match=r"is measured by accuracy: .* measured by exact-match or contains"):
        check_cascadable(task)


def texts(answers: list[str], logprobs: list[float]) -> Arrays:
    return {"text_output": bytes_array(answers), "mean_logprob": np.array(logprobs, np.float32)}


def test_calibrate_texts_by_mean_log_probability() -> None:
    rows = LabelledRows({"text_input": bytes_array(["a", "b", "c", "d"])}, bytes_array(["ada", "bo", "cy", "di\nedi"]))
    first = texts(["it is Ada", "x", "", "cy"], [-0.01, -2.0, 0.0, -1.0])
    then = texts(["Ada", "Bo", "the Cy", "an edi"], [0.0] * 4)
    request = CascadeRequest(task="chat", first="a", then="b", validation=Path("v"), min_accuracies=(1.0, 0.75))
    found = calibrate(request, "contains", "text_output", rows, first, then)
    assert (found.output, found.measure) == ("mean_logprob", ConfidenceMeasure.LOGPROB)
    cheap, sure = found.points
    assert (cheap.escalated, cheap.accuracy) == (0.5, 0.75)
    assert (sure.escalated, sure.accuracy) == (0.75, 1.0)
    assert found.kept["text_input"].tolist()[0] == b"c", "an empty text is the least confident one"
    with pytest.raises(InvalidRequest, match="leave --confidence out"):
        calibrate(replace(request, confidence="softmax"), "contains", "text_output", rows, first, then)


def test_check_cascadable_requires_outputs_of_fixed_size() -> None:
    task = a_task()
    with pytest.raises(InvalidRequest, match="must have one size"):
        check_cascadable(replace(task, outputs=(replace(task.outputs[0], shape=(-1, -1)),)))
