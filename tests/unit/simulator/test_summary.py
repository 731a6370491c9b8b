"""Tests of the figures of a simulation, on outcomes written by hand."""

import math
from typing import Any

import numpy as np
import pytest

from schemas.errors import RefusalReason
from schemas.query import Mode
from simulator.history import FleetSample
from simulator.outcomes import NO_VARIANT, REASONS, QueryColumns, QueryOutcome
from simulator.scenario import Scenario
from simulator.simulation import ScaleChange, SimulationResult
from simulator.summary import summarize
from simulator.trace import QueryKind, Trace
from tests.unit.simulator.small_catalogue import CATALOGUE

ONE, FOUR = QueryKind(task="digits", latency_ms=100), QueryKind(task="digits", latency_ms=100, batch=4)
OFFLINE = QueryKind(task="digits", mode=Mode.OFFLINE)
MLP, CNN = 0, 1
LIMIT = REASONS.index(RefusalReason.CONCURRENCY_LIMIT.value)
A, L, R, E, F, W = (QueryOutcome[name] for name in ("ANSWERED", "LATE", "REFUSED", "EXPIRED", "FAILED", "WAITING"))


def a_result(rows: list[tuple[float, QueryKind, QueryOutcome, int, float]], **scenario: Any) -> SimulationResult:
    """Return a result of queries: arrival in s, kind, outcome, variant, latency in s; 0.1 s were predicted for each."""
    times, kinds, outcomes, variants, latencies = zip(*rows, strict=True)
    time_s, number = np.array(times), len(rows)
    refused = np.isin(outcomes, (R, E))
    return SimulationResult(
        scenario=Scenario(
            trace=Trace(time_s, np.arange(number, dtype=np.int32), kinds), catalogue=CATALOGUE, **scenario
        ),
        queries=QueryColumns(
            outcome=np.array(outcomes, np.uint8),
            reason=np.where(refused, LIMIT, 0).astype(np.uint8),
            variant=np.array(variants, np.int32),
            ended_s=time_s + np.array(latencies),
            cost=np.full(number, 0.5, np.float32),
            chosen_s=time_s,
            predicted_s=np.full(number, 0.1, np.float32),
            upgraded=np.zeros(number, np.bool_),
        ),
        samples=(
            FleetSample(0.0, {"cpu": 1}, {}, {"cpu": 0.5}, 0, 0.36),
            FleetSample(5.0, {"cpu": 2}, {}, {"cpu": 0.7}, 0, 0.72),
            FleetSample(10.0, {}, {}, {}, 0, 0.0),
        ),
        usd=0.002,
        changes=(
            ScaleChange(-1.0, "place", "mlp.onnx-fp32.cpu", "cpu-0", "before the trace"),
            ScaleChange(2.0, "want", "cpu", "2", "load"),
            ScaleChange(4.0, "place", "mlp.onnx-fp32.cpu", "cpu-1", "load"),
        ),
        events=1,
        wall_s=1.0,
    )  # fmt: skip


ROWS = [
    (0.0, ONE, A, MLP, 0.05),
    (1.0, FOUR, A, CNN, 0.1),
    (2.0, ONE, L, MLP, 0.2),
    (3.0, ONE, R, NO_VARIANT, 0.0),
    (4.0, ONE, E, MLP, 0.1),
    (5.0, ONE, F, MLP, 0.1),
    (6.0, ONE, W, NO_VARIANT, math.nan),
    (7.0, ONE, A, MLP, 0.05),
    (8.0, OFFLINE, A, MLP, 9.0),
    (10.0, OFFLINE, W, NO_VARIANT, math.nan),
]


def test_summary_counts_outcomes() -> None:
    found = summarize(a_result(ROWS))
    assert (found.seconds, found.queries, found.offline) == (10.0, 10, 2)
    counts = (found.answered, found.late, found.refused, found.expired, found.failed, found.waiting)
    assert counts == (4, 1, 1, 1, 1, 2)
    assert sum(counts) == found.queries
    assert found.refusals == {REASONS[LIMIT]: 2}


def test_summary_attainment_is_of_online_queries() -> None:
    found = summarize(a_result(ROWS))
    assert (found.attainment, found.violations, found.goodput_per_s) == pytest.approx((3 / 8, 5 / 8, 0.3))


def test_summary_latencies_are_of_computed_online_queries() -> None:
    found = summarize(a_result(ROWS))
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx(np.percentile([50, 100, 200, 50], (50, 90, 99)))


def test_summary_accuracy_is_weighted_by_inputs() -> None:
    assert summarize(a_result(ROWS)).accuracy == pytest.approx((2 * 0.9 + 4 * 0.97) / 6)


def test_summary_costs_are_of_answered_queries_and_workers() -> None:
    found = summarize(a_result(ROWS))
    assert found.charged_usd == pytest.approx(4 * 0.5 / 1000)
    assert (found.usd, found.usd_per_hour, found.usd_per_1000) == pytest.approx((0.002, 0.72, 0.5))


def test_summary_fleet_is_mean_of_samples() -> None:
    found = summarize(a_result(ROWS))
    assert (found.workers, found.utilisation) == ({"cpu": pytest.approx(1.0)}, {"cpu": pytest.approx(0.6)})
    assert found.changes == {"place": 1, "want": 1}


def test_summary_prediction_error_is_median_of_relative_errors() -> None:
    assert summarize(a_result(ROWS)).prediction_error == pytest.approx(np.median([1.0, 0.0, 0.5, 1.0]))


def test_summary_leaves_out_warm_up() -> None:
    found = summarize(a_result(ROWS, warm_up_s=3.0))
    assert (found.seconds, found.queries, found.answered, found.late, found.refused) == (7.0, 7, 2, 0, 1)
    assert (found.attainment, found.workers, found.changes) == (1 / 5, {"cpu": 1.0}, {"place": 1})


def test_summary_without_answers_has_unknown_figures() -> None:
    found = summarize(a_result([(0.0, ONE, R, NO_VARIANT, 0.0), (1.0, ONE, R, NO_VARIANT, 0.0)]))
    assert (found.attainment, found.answered) == (0.0, 0)
    assert all(math.isnan(value) for value in (found.p50_ms, found.accuracy, found.prediction_error))
