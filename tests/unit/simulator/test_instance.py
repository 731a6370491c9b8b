"""Tests of simulated instances: the hand-over of partitions."""

import numpy as np
import pytest

from simulator.cluster.cluster import Cluster
from simulator.events import EventQueue
from simulator.outcomes import Outcomes
from tests.unit.simulator.small_scenarios import scenario, variant


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(scenario([0.0], [variant("t4", [0.1])]), EventQueue(), Outcomes(1), np.random.default_rng(0))


def test_instance_hands_over_all_partitions_at_once(cluster: Cluster) -> None:
    [moved] = cluster.variants.values()
    moved.grow(3)
    before, after = (cluster.add_worker(name, "t4") for name in ("before", "after"))
    before.host(moved, 1, range(3))
    after.host(moved, 1, range(3))
    before.instances[moved.name].follow((), 1)
    assert not before.instances[moved.name].online
    assert after.instances[moved.name].online.keys() == {0, 1, 2}


def test_instance_without_row_ends_after_hand_over(cluster: Cluster) -> None:
    [moved] = cluster.variants.values()
    before, after = (cluster.add_worker(name, "t4") for name in ("before", "after"))
    before.host(moved, 1, (0,))
    moved.wanted_by = {"after": frozenset({0})}
    after.begin_instance(moved, 1).follow((0,), 1)
    before.instances[moved.name].follow(None, 1)
    assert before.instances[moved.name].online  # until the next owner has loaded
    while not after.instances[moved.name].online:
        cluster.events.step()
    assert not before.instances
