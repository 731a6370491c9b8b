"""Tests of INFaaS's algorithm, as published and as in its prototype: selection, upgrade and downgrade."""

from collections import Counter

import pytest

from simulator.baselines import BASELINES
from simulator.outcomes import QueryOutcome
from simulator.simulation import SimulationResult, simulate
from simulator.trace import QueryKind
from tests.unit.simulator.baselines.scenarios import LARGE_GPU, SMALL, SMALL_GPU, STRICT, scenario, trace


def variants(result: SimulationResult) -> Counter[str]:
    """Return the answered queries by variant."""
    names = [one.name for one in result.scenario.catalogue.variants]
    answered = result.queries.outcome == QueryOutcome.ANSWERED
    return Counter(names[number] for number in result.queries.variant[answered])


@pytest.mark.parametrize(("rate", "is_upgraded"), [(150, False), (400, True)])
def test_infaas_upgrades_if_throughput_is_below_slack(rate: float, is_upgraded: bool) -> None:
    # One replica computes 215 queries a second in full batches; the only CPU worker cannot host another.
    result = simulate(scenario(trace([(15, rate)]), fleet={"cpu": 1, "cuda": 1}), BASELINES["infaas-paper"])
    assert (SMALL_GPU.name in {change.name for change in result.changes}) == is_upgraded


def test_infaas_downgrades_after_load() -> None:
    result = simulate(scenario(trace([(40, 400), (60, 20)]), fleet={"cpu": 1, "cuda": 1}), BASELINES["infaas-paper"])
    assert any(SMALL_GPU.name in sample.instances for sample in result.samples[:40])
    assert SMALL_GPU.name not in result.samples[-1].instances
    assert variants(result)[SMALL.name] > 0.8 * 60 * 20


@pytest.mark.parametrize("name", ["infaas-paper", "infaas-code"])
def test_infaas_answers_with_active_variant_that_meets_needs(name: str) -> None:
    queries = trace([(3, 30)], (STRICT,))
    given = scenario(queries, fleet={"cpu": 1, "cuda": 1}, placed={SMALL.name: 1, LARGE_GPU.name: 1})
    assert variants(simulate(given, BASELINES[name])) == {LARGE_GPU.name: len(queries)}


def test_prototype_searches_first_accuracy_bin_only() -> None:
    # The bin from 0.5 to 0.7 holds the small variants; no CPU computes within 10 ms, and no GPU runs.
    queries = trace([(5, 5)], (QueryKind(task="images", latency_ms=3.0, min_accuracy=0.6),))
    result = simulate(scenario(queries, fleet={"cuda": 1}, placed={LARGE_GPU.name: 1}), BASELINES["infaas-code"])
    assert (result.queries.outcome == QueryOutcome.REFUSED).all()
