"""Tests of simulated instances: the hand-over of partitions."""

import numpy as np

from simulator.cluster.cluster import Cluster
from simulator.events import EventQueue
from simulator.outcomes import Outcomes
from tests.unit.simulator.small_scenarios import scenario, variant


def test_instance_hands_over_all_partitions_at_once() -> None:
    events = EventQueue()
    cluster = Cluster(scenario([0.0], [variant("t4", [0.1])]), events, Outcomes(1), np.random.default_rng(0))
    [moved] = cluster.variants.values()
    moved.grow(3)
    before, after = (cluster.add_worker(name, "t4") for name in ("before", "after"))
    before.host(moved, 1, range(3))
    after.host(moved, 1, range(3))
    before.instances[moved.name].follow((), 1)
    assert not before.instances[moved.name].online
    assert after.instances[moved.name].online.keys() == {0, 1, 2}
