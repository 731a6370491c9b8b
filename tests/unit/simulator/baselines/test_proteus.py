"""Tests of Proteus: the program trades accuracy for load, and batches wait while they can."""

from itertools import count

import numpy as np
import pytest

from schemas.latency import BatchLatency, LatencyModel
from simulator.baselines import BASELINES
from simulator.baselines.accuracy_program import ClassDemand, solve_accuracy
from simulator.baselines.priced_profile import PricedProfiles
from simulator.baselines.proactive_queue import ProactiveQueue
from simulator.baselines.static import query_of
from simulator.cluster.cluster import Cluster
from simulator.cluster.query import Piece, SimulatedQuery
from simulator.events import EventQueue
from simulator.outcomes import Outcomes
from simulator.simulation import simulate
from tests.unit.simulator.baselines.scenarios import BURSTY, KIND, LARGE, SMALL, scenario, trace
from workers.slots.large_queries import PieceTurn


def profiles() -> PricedProfiles:
    given = scenario(BURSTY)
    return PricedProfiles(Cluster(given, EventQueue(), Outcomes(0), np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("rate", "replicas"),
    [
        # On two workers with 50 large or 195 small inputs a second each, as many large replicas as carry the load.
        (90, {LARGE.name: 2}),
        (200, {LARGE.name: 1, SMALL.name: 1}),
        (380, {SMALL.name: 2}),
        (1000, {SMALL.name: 2}),
    ],
)
def test_accuracy_program_lowers_accuracy_with_load(rate: float, replicas: dict[str, int]) -> None:
    demand = ClassDemand("images", rate, 0.19, profiles().meeting(query_of(KIND)))
    found = solve_accuracy([demand], {"cpu": 2})
    assert found.replicas == replicas
    assert sum(share for _, share in found.shares["images"]) <= rate + 1e-6


def test_proteus_follows_load_by_accuracy_on_fixed_cluster() -> None:
    result = simulate(scenario(trace([(60, 60), (60, 300)]), fleet={"cpu": 2}), BASELINES["proteus-fleet"])
    assert {sample.workers["cpu"] for sample in result.samples} == {2}
    assert result.samples[20].instances == {LARGE.name: 2}
    assert result.samples[-1].instances == {SMALL.name: 2}


def test_proactive_queue_waits_while_first_query_can() -> None:
    now, wakes = [0.0], list[float]()
    latency = LatencyModel([BatchLatency(1, 0.01, 0.01), BatchLatency(4, 0.04, 0.04)], 4)
    queue: ProactiveQueue[SimulatedQuery | Piece] = ProactiveQueue(
        latency, count(1), PieceTurn(), spread=1.0, clock=lambda: now[0], wake_at=wakes.append
    )
    query = query_of(KIND)
    for number in range(2):
        one = SimulatedQuery(number, query)
        one.deadline_s = 0.1 + number
        queue.add(one)
    # Three inputs take 30 ms, and the hop to the client 5 ms.
    assert queue.urgency() is None
    assert wakes == pytest.approx([0.065])
    now[0] = 0.065
    assert queue.urgency() is not None
    assert len(queue.next_batch(now[0], 1.0).batch) == 2
