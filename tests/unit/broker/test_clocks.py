"""Tests of `BrokerClock`, whose error stays within a round trip, and of `BrokerClocks`, whose brokers differ."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.kafka.clocks import MOST_APART_MS, BrokerClock, BrokerClocks

T = 1_700_000_000_000.0


class World:
    """Broker and process, each with its own clock."""

    def __init__(self, *, wrong_by_s: float = 0.0, drift: float = 0.0) -> None:
        self.now_s = 1000.0
        self.broker_ms = T
        self.drift = drift
        self.wrong_by_s = wrong_by_s
        self.clock = BrokerClock(lambda: self.now_s, lambda: self.broker_ms / 1e3 + self.wrong_by_s)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.broker_ms += seconds * 1e3 * (1 + self.drift)

    def append(self, there_s: float, back_s: float) -> None:
        """Write a record and receive its acknowledgement."""
        sent_s = self.now_s
        self.pass_s(there_s)
        appended_ms = math.floor(self.broker_ms)
        self.pass_s(back_s)
        self.clock.on_append(sent_s, self.now_s, appended_ms)

    def fetch(self, age_s: float) -> None:
        """Fetch a record of this age."""
        appended_ms = math.floor(self.broker_ms)
        self.pass_s(age_s)
        self.clock.on_record(appended_ms)

    @property
    def error_ms(self) -> float:
        return self.clock.now_ms() - self.broker_ms


_WAYS = st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2)), min_size=1, max_size=30)


@given(st.floats(-1e6, 1e6), _WAYS, st.floats(-1e-4, 1e-4))
def test_clock_error_is_at_most_half_quickest_round_trip(
    wrong_by_s: float, ways: list[tuple[float, float]], drift: float
) -> None:
    world = World(wrong_by_s=wrong_by_s, drift=drift)
    for there_s, back_s in ways:
        world.append(there_s, back_s)
    quickest_ms = min(there_s + back_s for there_s, back_s in ways) * 1e3
    passed_ms = (world.now_s - 1000.0) * 1e3
    assert abs(world.error_ms) <= (quickest_ms + 1) / 2 + passed_ms * 4e-4 + 1e-3


@given(st.floats(-1e4, 1e4), _WAYS)
def test_clock_follows_step_with_next_acknowledgement(step_s: float, ways: list[tuple[float, float]]) -> None:
    world = World()
    world.append(0.001, 0.001)
    world.broker_ms += step_s * 1e3
    for there_s, back_s in ways:
        world.append(there_s, back_s)
        round_trip_ms = (there_s + back_s) * 1e3 + 1
        assert abs(world.error_ms) <= round_trip_ms + 1e-3


def test_clock_tolerates_slow_round_trip_under_drift() -> None:
    world = World(drift=0.001)  # five times the assumed maximum
    for _ in range(20):
        world.append(0.001, 0.001)
        world.pass_s(1.0)
        world.append(0.0, 1.0)  # alone, it would shift the estimate by half a second
        assert abs(world.error_ms) < 10


def test_clock_is_finer_than_broker_milliseconds() -> None:
    world, random = World(wrong_by_s=5.0), Random(7)
    for _ in range(200):
        world.append(random.uniform(0.0002, 0.05), random.uniform(0.0002, 0.05))
        world.pass_s(random.uniform(0, 0.2))
    assert abs(world.error_ms) < 0.6


def test_clock_narrows_bounds_by_fetched_records() -> None:
    world = World()
    world.append(1.0, 1.0)
    world.append(0.0, 1.5)
    assert abs(world.error_ms) > 400
    world.fetch(0.001)
    assert abs(world.error_ms) < 2
    world.fetch(3600)  # an old record narrows no bound
    world.append(0.001, 0.001)
    assert abs(world.error_ms) < 2


def test_clock_ignores_record_from_before_step_back() -> None:
    world = World()
    for _ in range(3):
        world.append(0.001, 0.001)
        world.clock.on_record(world.broker_ms + 3600e3)
        assert abs(world.error_ms) < 3


@pytest.mark.parametrize("step_s", [-5.0, 5.0])
def test_clock_follows_step_by_fetched_records_alone(step_s: float) -> None:
    world = World(wrong_by_s=-7.0)
    for _ in range(5):
        world.pass_s(1.0)
        world.fetch(0.01)
    assert abs(world.error_ms) < 12
    world.broker_ms += step_s * 1e3
    for _ in range(15):
        world.pass_s(1.0)
        world.fetch(0.01)
    assert abs(world.error_ms) < 12


def test_clock_uses_wall_clock_before_first_bound() -> None:
    world = World(wrong_by_s=5.0)
    world.clock.on_append(world.now_s, world.now_s, -1)
    world.pass_s(1.0)
    assert world.error_ms == pytest.approx(5000, abs=1e-3)
    world.wrong_by_s = -5.0
    assert world.error_ms == pytest.approx(-5000, abs=1e-3)
    assert not world.clock.heard
    world.append(0.001, 0.001)
    assert world.clock.heard
    assert abs(world.error_ms) < 2


Steps = list[tuple[int, bool, float, float]]


class ClocksWorld:
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
    world = ClocksWorld(ahead_ms)
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
    world = ClocksWorld([0.0, 100.0])
    world.append(0, 0.001, 0.001)
    stamp = world.fetch(1, 3600.0)
    assert world.left_ms(1, stamp, 0.0) < -3600e3 + MOST_APART_MS + 150
    world.fetch(1, 0.001)
    assert world.clocks.offset_of(1) == pytest.approx(T + 100, abs=3)


def test_broker_clocks_convert_deadline_between_processes() -> None:
    selector, worker = ClocksWorld([0.0, 100.0, -50.0]), ClocksWorld([0.0, 100.0, -50.0])
    for node in (0, 1, 2):
        selector.append(node, 0.001, 0.001)
    worker.append(0, 0.001, 0.001)  # the worker writes its statuses to this broker
    for node in (0, 1, 2):
        deadline_ms = selector.now_s * 1e3 + 100.0 + selector.clocks.offset_of(node)
        worker.fetch(node, 0.001)
        assert deadline_ms - worker.clocks.offset_of(node) - selector.now_s * 1e3 == pytest.approx(100.0, abs=4)


def test_broker_clocks_keep_main_broker_without_node() -> None:
    world = ClocksWorld([0.0, 100.0])
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
