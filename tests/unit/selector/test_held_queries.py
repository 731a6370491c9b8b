"""Tests of `HeldQueries`: limits by tenant and source, turns of tenants, and queries that block others."""

from collections import Counter

import msgspec
import pytest

from schemas.query import Mode
from schemas.topics import LANES, ingress_topic, offline_of, offline_topic
from selector.dispatch.held_queries import HELD, HELD_OF_TASK, HeldQueries, Place, Source, lane_of
from selector.policy.choice import PolicyConfig
from selector.policy.entities import Instance
from tests.unit.selector.story import FAST, NOW, query, three

TOPIC = offline_topic("digits")
TENANTS = offline_of(ingress_topic("acme"))


class Holding:
    """Held queries, and the sources that are not read."""

    def __init__(self) -> None:
        self.full: set[Source] = set()
        self.held = HeldQueries[int](PolicyConfig(tenants=("acme", "zeta")), self.leave_out)
        self._offset = 0

    def leave_out(self, full: object) -> None:
        assert isinstance(full, set)
        self.full = set(full)

    def hold(self, tenant: str | None = None, count: int = 1, topic: str = TOPIC, *, size: int = 10) -> list[int]:
        """Hold queries of one tenant; return the lanes that some must be moved to."""
        moved: list[int] = []
        for _ in range(count):
            asked = msgspec.structs.replace(query(mode=Mode.OFFLINE), tenant=tenant)
            lane = self.held.hold(asked, self._offset, Place(topic, 0, self._offset), size, NOW)
            self._offset += 1
            moved += [] if lane is None else [lane]
        return moved


def an_instance() -> Instance:
    return three().workers["cpu-0"].instances[FAST]


def test_hold_moves_queries_beyond_a_tenants_limit() -> None:
    holding = Holding()
    assert holding.hold("acme", HELD) == []
    assert holding.hold("acme", 2) == 2 * [lane_of("digits", "acme")]
    assert holding.hold("zeta") == []
    assert len(holding.held) == HELD + 1
    assert not holding.full, "a task's topic is read to its end"


def test_hold_moves_queries_beyond_a_tasks_limit() -> None:
    holding = Holding()
    for number in range(HELD_OF_TASK // HELD):
        assert holding.hold(f"t{number}", HELD) == []
    assert len(holding.hold("zeta")) == 1
    for held in holding.held.drop():
        assert held.place.topic == TOPIC
    assert not holding.held
    assert holding.hold("zeta") == []


@pytest.mark.parametrize(("topic", "source"), [(LANES, (LANES, 0)), (TENANTS, TENANTS)])
def test_hold_stops_reading_a_full_source(topic: str, source: Source) -> None:
    holding = Holding()
    assert holding.hold("acme", HELD - 1, topic) == []
    assert not holding.full
    assert holding.hold("acme", 1, topic) == []
    assert holding.full == {source}
    holding.held.release(next(holding.held.turns()))
    assert not holding.full


def test_hold_limits_bytes() -> None:
    holding = Holding()
    assert holding.hold("acme", 1, size=1 << 24) == []
    assert len(holding.hold("acme")) == 1


def test_turns_give_tenants_equal_cost() -> None:
    holding, instance = Holding(), an_instance()
    holding.hold("acme", 60)
    holding.hold("zeta", 20)
    order: list[str | None] = []
    for held in holding.held.turns():
        order.append(held.query.tenant)
        holding.held.release(held)
        holding.held.forwarded(held, instance)
    assert Counter(order[:40]) == {"acme": 20, "zeta": 20}
    assert set(order[40:]) == {"acme"}
    assert not holding.held


def test_turns_keep_reading_order_and_skip_released() -> None:
    holding = Holding()
    holding.hold("acme", 4)
    turns = holding.held.turns()
    first = next(turns)
    dropped = [held for held in holding.held.drop({(TOPIC, 0)}) if held is not first]
    assert [held.item for held in dropped] == [1, 2, 3]
    assert list(turns) == []


def test_is_in_the_way_after_others_passed() -> None:
    holding, instance = Holding(), an_instance()
    holding.hold("acme")
    (stuck,) = holding.held.turns()
    for _ in range(HELD):
        assert not holding.held.is_in_the_way(stuck, NOW + 60.0)
        holding.hold("acme")
        for held in holding.held.turns():
            if held is not stuck:
                holding.held.release(held)
                holding.held.forwarded(held, instance)
    assert holding.held.is_in_the_way(stuck, NOW + 60.0)
    assert not holding.held.is_in_the_way(stuck, NOW + 0.5), "it has not waited long"


def test_of_lanes_counts_queries_of_lanes_only() -> None:
    holding = Holding()
    holding.hold("acme", 2)
    holding.hold("acme", 3, LANES)
    assert holding.held.of_lanes() == {"digits": 3}
