"""Tests of `BrokerClocks`: ages and deadlines of records from brokers whose clocks differ."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.broker_clocks import MOST_APART_MS, BrokerClocks

T = 1_700_000_000_000.0
Steps = list[tuple[int, bool, float, float]]


class World:
    """Brokers with different clocks, and a process that writes to some of them and reads from all."""

    def __init__(self, ahead_ms: list[float]) -> None:
        self.now_s = 1000.0
        self.ahead_ms = ahead_ms
        self.clocks = BrokerClocks(lambda: self.now_s, lambda: (T + self.now_s * 1e3) / 1e3)

    def stamp(self, node: int) -> float:
        return math.floor(T + self.now_s * 1e3 + self.ahead_ms[node])

    def append(self, node: int, there_s: float, back_s: float) -> None:
        """Write a record and receive its acknowledgement."""
        sent_s = self.now_s
        self.now_s += there_s
        stamp = self.stamp(node)
        self.now_s += back_s
        self.clocks.on_append(node, sent_s, self.now_s, stamp)

    def fetch(self, node: int, age_s: float) -> float:
        """Fetch a record of this age, and return its timestamp."""
        stamp = self.stamp(node)
        self.now_s += age_s
        self.clocks.on_record(node, stamp)
        return stamp

    def left_ms(self, node: int, stamp: float, latency_ms: float) -> float:
        """Return the time until a query's deadline, in milliseconds."""
        return stamp + latency_ms - self.clocks.offset_of(node) - self.now_s * 1e3


@given(
    st.lists(st.floats(-400, 400), min_size=3, max_size=3),
    st.lists(
        st.tuples(st.integers(0, 2), st.booleans(), st.floats(0, 0.02), st.floats(0, 0.02)), min_size=1, max_size=40
    ),
)
def test_broker_clocks_never_overestimate_record_age(ahead_ms: list[float], steps: Steps) -> None:
    world = World(ahead_ms)
    for node, writes, there_s, back_s in steps:
        if writes and node != 2:  # it only reads from broker 2
            world.append(node, there_s, back_s)
            continue
        stamp = world.fetch(node, back_s)
        left_ms = world.left_ms(node, stamp, 100.0)
        assert left_ms >= 100.0 - back_s * 1e3 - 22, "taken for older than it is, by more than a round trip"
        if node in world.clocks.acknowledging:
            assert left_ms <= 100.0 - back_s * 1e3 + 22


def test_broker_clocks_recognise_old_record_without_acks() -> None:
    world = World([0.0, 100.0])
    world.append(0, 0.001, 0.001)
    stamp = world.fetch(1, 3600.0)
    assert world.left_ms(1, stamp, 0.0) < -3600e3 + MOST_APART_MS + 150
    world.fetch(1, 0.001)
    assert world.clocks.offset_of(1) == pytest.approx(T + 100, abs=3)


def test_broker_clocks_convert_deadline_between_processes() -> None:
    selector, worker = World([0.0, 100.0, -50.0]), World([0.0, 100.0, -50.0])
    for node in (0, 1, 2):
        selector.append(node, 0.001, 0.001)
    worker.append(0, 0.001, 0.001)  # the worker writes its statuses to this broker
    for node in (0, 1, 2):
        deadline_ms = selector.now_s * 1e3 + 100.0 + selector.clocks.offset_of(node)
        worker.fetch(node, 0.001)
        assert deadline_ms - worker.clocks.offset_of(node) - selector.now_s * 1e3 == pytest.approx(100.0, abs=4)


def test_broker_clocks_keep_main_broker_without_node() -> None:
    world = World([0.0, 100.0])
    assert not world.clocks.heard
    world.append(1, 0.001, 0.001)
    for _ in range(50):
        world.append(0, 0.001, 0.001)
        world.append(1, 0.001, 0.001)
        assert world.clocks.offset_ms == pytest.approx(T + 100, abs=2)
    world.now_s += 100.0
    world.append(0, 0.001, 0.001)
    assert world.clocks.offset_ms == pytest.approx(T, abs=2)
    assert world.clocks.offset_of(1) == pytest.approx(T + 100, abs=25)
    assert world.clocks.offset_of(None) == world.clocks.offset_ms
