"""Tests of other choices of a replica within INFaaS on Kafka."""

from collections import Counter

import pytest

from selector.policy.choice import Choice
from simulator.baselines.replica_choice import PrequalSelector, ShortestQueueSelector, in_flight
from simulator.scenario import FaultKind, InflictedFault, Scaling
from simulator.services.infaas import InfaasSystem
from simulator.simulation import simulate
from simulator.summary import summarize
from simulator.system import SimulatedSystem, SimulationContext
from tests.unit.simulator.baselines.scenarios import SMALL, scenario, trace

SLOW = InflictedFault(kind=FaultKind.WORKER_SLOWS, at_s=0.0, seconds=60.0, factor=3.0)
"""Makes one of four workers slow."""


@pytest.mark.parametrize("kind", [ShortestQueueSelector, PrequalSelector])
def test_replica_choice_spares_slow_worker(kind: type[ShortestQueueSelector]) -> None:
    chosen = Counter[str]()

    class Recording(kind):
        def choose_replica(self, choice: Choice) -> Choice:
            found = super().choose_replica(choice)
            assert found.instance is not None
            chosen[found.instance.worker.name] += 1
            return found

    def system(context: SimulationContext) -> SimulatedSystem:
        return InfaasSystem(context, selector=Recording)

    given = scenario(
        trace([(20, 350)]), fleet={"cpu": 4}, placed={SMALL.name: 4}, faults=(SLOW,), scaling=Scaling(enabled=False)
    )
    summary = summarize(simulate(given, system))
    assert summary.attainment > 0.95
    slow, *others = [chosen[f"cpu-{number}"] for number in range(4)]
    assert slow < 0.6 * min(others)


def test_shortest_queue_is_joined() -> None:
    class Checked(ShortestQueueSelector):
        def choose_replica(self, choice: Choice) -> Choice:
            found = super().choose_replica(choice)
            queues = {instance.worker.name: in_flight(actual) for instance, actual in self.replicas(choice)}
            assert found.instance is not None
            assert queues[found.instance.worker.name] == min(queues.values())
            return found

    given = scenario(
        trace([(10, 500)]), fleet={"cpu": 3}, placed={SMALL.name: 3}, selectors=4, scaling=Scaling(enabled=False)
    )
    result = simulate(given, lambda context: InfaasSystem(context, selector=Checked))
    assert summarize(result).answered > 4000
