"""The pace of offline queries against a simulated instance: it is kept fed, and not flooded."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selector.offline_pace import OfflinePace

BATCH = 32
INPUT_S = 0.0001
_TICK_S = 0.002


class Simulation:
    """An instance that computes `capacity` inputs a second of what reached it, and says every 100 ms what is left.

    What is sent needs `hop_s` to get there, and what is computed as long until it counts as answered.
    """

    def __init__(self, capacity: float, hop_s: float, givers: int = 1) -> None:
        self.capacity = capacity
        self.hop_s = hop_s
        self.paces = [OfflinePace() for _ in range(givers)]
        self.given = [0] * givers
        self.on_the_way: deque[tuple[float, int]] = deque()
        self.there = 0.0
        self.answering: deque[tuple[float, float]] = deque()
        self.done = 0.0
        self.most_left = 0.0
        self.now = 100.0
        self.spoken_at = 0.0

    @property
    def left(self) -> float:
        return sum(n for _, n in self.on_the_way) + self.there + sum(n for _, n in self.answering)

    def run(self, seconds: float, beside: bool = False) -> None:
        """Give as much as there is room for; counts begin when a second has passed."""
        until, counted_from = self.now + seconds, self.now + 1.0
        while self.now < until:
            self.now += _TICK_S
            self.step(beside)
            if self.now < counted_from:
                self.done = self.most_left = 0.0
                self.given = [0] * len(self.given)

    def step(self, beside: bool) -> None:
        while self.on_the_way and self.on_the_way[0][0] <= self.now:
            self.there += self.on_the_way.popleft()[1]
        computed = min(self.there, self.capacity * _TICK_S)
        self.there -= computed
        self.answering.append((self.now + self.hop_s, computed))
        while self.answering[0][0] <= self.now:
            self.done += self.answering.popleft()[1]
        if self.now - self.spoken_at >= 0.1:
            self.spoken_at = self.now
            self.most_left = max(self.most_left, self.left)
            for pace in self.paces:
                pace.observe(self.left, BATCH, INPUT_S, beside, self.now)
        for number, pace in enumerate(self.paces):
            while pace.has_room(1, beside, self.now):
                pace.sent(1, self.now)
                self.given[number] += 1
                self.on_the_way.append((self.now + self.hop_s, 1))


@settings(max_examples=10, deadline=None)
@given(st.floats(100, 8000), st.floats(0.001, 0.015))
def test_an_instance_with_nothing_else_to_do_is_kept_busy_and_not_flooded(capacity: float, hop_s: float) -> None:
    found = Simulation(capacity, hop_s)
    found.run(3.0)
    assert found.done >= 0.85 * 2 * capacity
    assert found.most_left <= 4 * BATCH + 0.1 * capacity


@settings(max_examples=10, deadline=None)
@given(st.floats(100, 8000))
def test_while_online_queries_come_little_is_ahead_of_them(capacity: float) -> None:
    found = Simulation(capacity, 0.005)
    found.run(3.0, beside=True)
    beside = 0.5 / (INPUT_S + 0.001)
    assert found.most_left <= 3 * BATCH
    assert found.done >= 0.8 * 2 * min(capacity, beside)
    assert found.done <= 1.1 * 2 * beside


def test_it_follows_what_is_to_spare() -> None:
    found = Simulation(8000, 0.005)
    found.run(3.0)
    found.capacity = 800
    found.run(2.0)
    found.run(2.0)
    assert found.most_left <= 4 * BATCH + 0.1 * 800
    found.capacity = 8000
    found.run(4.0)
    assert found.done >= 0.85 * 3 * 8000


def test_two_selectors_share_it() -> None:
    found = Simulation(4000, 0.005, givers=2)
    found.run(6.0)
    assert found.done >= 0.8 * 5 * 4000
    assert min(found.given) >= 0.1 * max(found.given)


def test_a_query_larger_than_all_room_goes_alone() -> None:
    pace = OfflinePace()
    pace.observe(0, BATCH, INPUT_S, False, 1.0)
    assert pace.has_room(1000, False, 1.0)
    pace.sent(1000, 1.0)
    assert not pace.has_room(1, False, 1.0)
    assert pace.level(1.0) == pytest.approx(1000)
