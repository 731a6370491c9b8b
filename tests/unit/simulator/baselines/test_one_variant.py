"""Tests of Ray Serve's and KEDA's rules."""

import numpy as np
import pytest

from simulator.baselines import BASELINES
from simulator.baselines.keda import wanted_replicas
from simulator.simulation import simulate
from simulator.trace import QueryKind, Trace
from tests.unit.simulator.baselines.scenarios import SMALL, scenario, trace

PATIENT = QueryKind(task="images")
"""Queries without a limit, which wait in the queue."""


@pytest.mark.parametrize(
    ("lag", "current", "wanted"),
    [
        (0, 3, 1),
        (16, 3, 3),  # within a tenth
        (21, 3, 5),
        (1000, 1, 5),  # four more at most
        (1000, 10, 20),  # or twice as many
    ],
)
def test_keda_wants_replica_for_each_five_records(lag: int, current: int, wanted: int) -> None:
    assert wanted_replicas(lag, current) == wanted


def test_keda_scales_by_lag_at_each_sync() -> None:
    # 6000 queries at once take one replica 28 s. The trace starts at second 10 of the simulation.
    queries = Trace(np.full(6000, 0.1), np.zeros(6000, np.int32), (PATIENT,)).overlaid([trace([(60, 2)], (PATIENT,))])
    given = scenario(queries, fleet={"cpu": 8})
    result = simulate(given, BASELINES["keda"])
    placed = [round(change.at_s, 1) for change in result.changes if change.action == "place"]
    assert placed[1:] == [*[5.0] * 4, *[20.0] * 3]
    assert result.samples[-1].instances == {SMALL.name: 8}


def test_ray_serve_scales_after_delay() -> None:
    # In the limit of 200 ms, the batch in time is 5 of 92 ms, so the target is 20 ongoing requests for 4 slots.
    queries = Trace(np.full(30_000, 0.1), np.zeros(30_000, np.int32), (PATIENT,)).overlaid([trace([(60, 1)])])
    result = simulate(scenario(queries, fleet={"cpu": 8}), BASELINES["ray-serve"])
    assert [change.at_s for change in result.changes if change.action == "place"][1:] == [31.0] * 7
