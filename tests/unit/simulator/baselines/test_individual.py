"""Tests of INDV: the number of replicas follows the rule of the prototype."""

import pytest

from simulator.baselines import BASELINES
from simulator.simulation import simulate
from tests.unit.simulator.baselines.scenarios import SMALL, scenario, trace


@pytest.mark.parametrize(("rate", "replicas"), [(5, {1}), (100, {1}), (240, {2}), (470, {3, 4})])
def test_individual_replicas_are_those_for_load(rate: float, replicas: set[int]) -> None:
    # 4 slots / 20.5 ms = 195 queries a second, of which 95 % are used; at 470 queries three workers are 80 % busy.
    result = simulate(scenario(trace([(60, rate)]), fleet={"cpu": 1}), BASELINES["individual"])
    assert {change.name for change in result.changes if change.action == "place"} == {SMALL.name}
    assert result.samples[-1].instances[SMALL.name] in replicas


def test_individual_removes_replica_and_worker_after_load() -> None:
    result = simulate(scenario(trace([(20, 230), (90, 20)]), fleet={"cpu": 1}), BASELINES["individual"])
    removed = [change.at_s for change in result.changes if change.action == "remove"]
    stopped = [change.at_s for change in result.changes if change.action == "stop"]
    # One replica is surplus from second 21 on: removed after more than 10 seconds of that, its worker 30 s later.
    assert [round(at_s) for at_s in removed] == [31]
    assert 60 <= stopped[0] <= 63
    assert result.samples[-1].workers == {"cpu": 1}
    assert result.samples[-1].instances == {SMALL.name: 1}
