"""Tests of the scenarios of a calibration."""

import numpy as np
import pytest

from schemas.query import Mode
from simulator.calibration.scenarios import CalibrationScenario, calibration_scenarios, probe_scenario
from simulator.calibration.task_load import TaskLoad
from simulator.trace import QueryKind

FIRST = TaskLoad(QueryKind(task="text", latency_ms=250.0, min_accuracy=0.8, batch=4), 0.02, 100.0)
SECOND = TaskLoad(QueryKind(task="vision", latency_ms=300.0, batch=2), 0.01, 200.0)
SECONDS = 30.0


def scenarios(*loads: TaskLoad) -> dict[str, CalibrationScenario]:
    return {one.name: one for one in calibration_scenarios(loads, 2.0, SECONDS)}


ALL = scenarios(FIRST, SECOND)


@pytest.mark.parametrize(("name", "per_s"), [
    ("low", 10), ("half", 50), ("busy", 80), ("bursts", 50), ("overload", 500), ("death", 40), ("gateway", 50),
])  # fmt: skip
def test_scenario_rate_is_share_of_capacity(name: str, per_s: float) -> None:
    trace = ALL[name].trace
    assert trace.rate_per_s == pytest.approx(per_s, rel=0.2)
    assert trace.duration_s <= SECONDS
    assert trace.kinds == (FIRST.kind,)


def test_step_quadruples_rate_after_a_third() -> None:
    before, *after = ALL["step"].trace.rates_per_s(SECONDS / 3)
    assert np.mean(after) == pytest.approx(4 * before, rel=0.15)


def test_flood_holds_offline_queries_beside_online_ones() -> None:
    trace = ALL["flood"].trace
    offline = ~trace.is_online
    assert offline.sum() == pytest.approx(0.4 * 100 * SECONDS, rel=0.1), "40 % of the capacity of the whole time"
    assert trace.time_s[offline].max() - trace.time_s[offline].min() < 0.1 * SECONDS
    assert [kind.latency_ms for kind in trace.kinds if kind.mode is Mode.OFFLINE] == [None]


def test_mix_holds_two_tasks_with_strict_and_loose_needs() -> None:
    kinds = ALL["mix"].trace.kinds
    assert {(kind.task, kind.batch, kind.latency_ms) for kind in kinds} == {
        ("text", 4, 250.0), ("text", 1, 500.0), ("vision", 2, 300.0), ("vision", 1, 600.0),
    }  # fmt: skip


def test_scenarios_of_one_task_are_the_same_ones() -> None:
    assert scenarios(FIRST).keys() == ALL.keys()


def test_probe_has_other_arrivals_than_scenarios() -> None:
    probe = probe_scenario([FIRST, SECOND], SECONDS).trace
    assert {kind.task for kind in probe.kinds} == {"text", "vision"}
    assert probe.rate_per_s == pytest.approx(0.3 * (100 + 200) / 2, rel=0.15)
    assert not set(probe.time_s.tolist()) & set(ALL["half"].trace.time_s.tolist())
