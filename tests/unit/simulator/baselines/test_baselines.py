"""Tests of all baselines: a bursty trace keeps the engine's invariants, and one scenario has one result."""

import pytest

from simulator.baselines import BASELINES
from simulator.outcomes import QueryOutcome
from simulator.scenario import FaultKind, InflictedFault
from simulator.simulation import SimulationResult, simulate
from simulator.summary import summarize
from simulator.trace import QueryKind
from tests.unit.simulator.baselines.scenarios import BURSTY, SMALL, scenario, trace


def outcomes(result: SimulationResult) -> tuple[object, ...]:
    queries = result.queries
    return (
        queries.outcome.tobytes(), queries.variant.tobytes(), queries.ended_s.tobytes(), result.usd, result.changes,
        result.events,
    )  # fmt: skip


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_answers_bursty_trace_reproducibly(name: str) -> None:
    """One of the two first workers dies in the calm before the first burst."""
    given = scenario(BURSTY, fleet={"cpu": 2}, faults=(InflictedFault(kind=FaultKind.WORKER_DIES, at_s=10.0),))
    result = simulate(given, BASELINES[name])
    found = summarize(result)
    assert found.queries == len(BURSTY) > 3000
    assert found.waiting == 0
    assert found.answered > 0.3 * found.queries
    assert result.usd > 0
    last = BURSTY.time_s > 65.0
    assert (result.queries.outcome[last] == QueryOutcome.ANSWERED).mean() > 0.9
    assert outcomes(result) == outcomes(simulate(given, BASELINES[name]))


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_keeps_placed_instance_until_first_query(name: str) -> None:
    given = scenario(trace([(20, 0), (10, 20)]), fleet={"cpu": 1}, placed={SMALL.name: 1})
    found = summarize(simulate(given, BASELINES[name]))
    assert found.queries > 100
    assert found.answered > 0.9 * found.queries
    assert found.waiting == 0


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_answers_queries_for_first_version(name: str) -> None:
    kind = QueryKind(task="images", latency_ms=2000.0, target="small@1")
    found = summarize(simulate(scenario(trace([(20, 20)], (kind,)), fleet={"cpu": 1}), BASELINES[name]))
    assert found.refused < 0.5 * found.queries
    assert found.answered > 100
