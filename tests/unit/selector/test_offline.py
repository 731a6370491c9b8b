"""Tests of offline queries: the instances that get them, the reasons to wait, and the turns of held queries."""

import math
from collections import Counter

import msgspec
import pytest

from schemas.errors import DeadlineExceeded, UnknownTask, Unsatisfiable
from schemas.query import Mode, Query
from schemas.topics import LANES, ingress_topic, offline_of, offline_topic
from selector.dispatch.held_queries import HELD, HELD_OF_TASK, HeldQueries, Place, Source, lane_of
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.late_binding import LateBinder, Wait, bind
from selector.policy.selection import choose
from tests.unit.selector.story import BEST, FAST, GOOD, NOW, instance, query, status, three

CONFIG = PolicyConfig(upgrades=False)


def offline(**needs: float | str | bool) -> Query:
    return query(mode=Mode.OFFLINE, **needs)  # pyright: ignore[reportArgumentType]


def bound(where: ClusterState, asked: Query, now: float = NOW) -> list[str]:
    """Bind such queries until one has to wait; return their variants in order."""
    names: list[str] = []
    while isinstance(outcome := bind(asked, where, now, CONFIG), Choice):
        assert outcome.instance is not None
        where.sent_offline(outcome.instance, outcome.partition, asked.batch, now)
        names.append(outcome.variant.name)
    assert isinstance(outcome, Wait)
    return names


def test_bind_fills_cheapest_idle_instance_first() -> None:
    names = bound(three(), offline())
    assert names[0] == FAST
    assert names == sorted(names), "the dearer one only when the cheaper one has enough"
    # An instance gets two batches and 0.2 s of work; a full batch of eight takes 2.75 ms.
    assert names.count(FAST) == 2 * 8 + int(0.2 / (0.00275 / 8))
    assert len(bound(three(), offline(target=FAST, batch=100_000))) == 1, "a query beyond the limit goes alone"
    one_slot = three()
    one_slot.apply_status(status(instance(FAST), instance(GOOD), slots=1, epoch=2), NOW)
    assert set(bound(one_slot, offline())) == {FAST}, "the slot is kept for the cheaper one"


def test_bind_waits_for_online_queries() -> None:
    where = three()
    for target in (FAST, GOOD):
        choice = choose(query(target=target, batch=100), where, NOW, CONFIG)
        assert isinstance(choice, Choice)
        where.sent(choice.instance, choice.partition, 100, NOW, NOW)
        where.acknowledged(choice.instance, choice.partition, 99, NOW, large_inputs=100)
    assert bound(where, offline()) == []
    where.apply_status(status(instance(FAST), instance(GOOD)), NOW + 0.1)
    assert bound(where, offline(), NOW + 0.1)


def test_bind_gives_less_while_online_queries_arrive() -> None:
    def given(where: ClusterState, now: float) -> int:
        return bound(where, offline(target=FAST), now).count(FAST)

    idle = given(three(), NOW)
    where = three()
    choice = choose(query(target=FAST), where, NOW, CONFIG)
    assert isinstance(choice, Choice)
    where.sent(choice.instance, choice.partition, 1, NOW, NOW)
    where.acknowledged(choice.instance, choice.partition, 100, NOW)
    assert 0 < given(where, NOW + 0.05) < idle // 4
    assert given(where, NOW + 0.2) > idle // 2, "the rest"
    elsewhere = three()
    elsewhere.apply_status(status(instance(FAST, queued=1), instance(GOOD)), NOW)
    assert 0 < given(elsewhere, NOW + 0.05) < idle // 4, "by whichever selector they are sent"


def test_bind_gives_no_more_to_instance_with_backlog() -> None:
    where = three()
    given = bound(where, offline(target=FAST))
    for partition in where.workers["cpu-0"].instances[FAST].offline_partitions:
        while partition.unacked:
            where.acknowledged(None, partition, partition.end, NOW)
    unread = len(given) // 4
    where.apply_status(status(instance(FAST, unread_offline=unread), instance(GOOD)), NOW + 0.1)
    assert len(bound(where, offline(target=FAST), NOW + 0.1)) <= 4
    left = instance(FAST, read_offline=10, unread_offline=unread - 10)
    where.apply_status(status(left, instance(GOOD)), NOW + 0.2)
    assert 40 <= len(bound(where, offline(target=FAST), NOW + 0.2)) <= 44


def test_bind_skips_workers_that_read_no_offline_topic_yet() -> None:
    where = three()
    where.apply_status(status(instance(FAST, reads_offline=False), instance(GOOD), epoch=2), NOW)
    assert set(bound(where, offline())) == {GOOD}
    assert bound(where, offline(target=FAST)) == []
    where.apply_status(status(instance(FAST), instance(GOOD), epoch=2), NOW + 0.1)
    assert bound(where, offline(target=FAST), NOW + 0.1)


@pytest.mark.parametrize("by_status", [True, False])
def test_bind_counts_offline_backlog_of_other_selectors(by_status: bool) -> None:
    where = three()
    room = len(bound(three(), offline(target=FAST)))
    served = where.workers["cpu-0"].instances[FAST]
    if by_status:
        where.apply_status(status(instance(FAST, unread_offline=room // 8), instance(GOOD)), NOW)
    else:
        where.sent_offline(served, served.offline_partitions[0], 1, NOW)
        where.acknowledged(served, served.offline_partitions[0], room // 2, NOW)
    assert served.waiting(NOW) == 0
    assert abs(len(bound(where, offline(target=FAST))) - room / 2) <= 4


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        (offline(target=FAST), Choice),
        (offline(latency_ms=100.0, sent=NOW - 1, allow_late=True), Choice),
        (offline(target=BEST), Wait),
        (offline(min_accuracy=0.99), Unsatisfiable),
        (offline(target="nobody"), UnknownTask),
        (offline(task="nothing"), UnknownTask),
        (offline(latency_ms=100.0, sent=NOW - 1), DeadlineExceeded),
        (offline(target=BEST, latency_ms=100.0, sent=NOW - 1), DeadlineExceeded),
    ],
)
def test_binder_chooses_waits_or_refuses(asked: Query, outcome: type[object]) -> None:
    where = three()
    binder = LateBinder(where, CONFIG)
    assert binder.retry_s == math.inf
    for _ in range(2):  # the second time as an alike query
        found = binder.bind(asked, NOW)
        assert isinstance(found.error if isinstance(found, Refusal) else found, outcome)
        assert not isinstance(found, Wait) or (found.wanted is not None and found.wanted.name == BEST)
    assert (binder.retry_s < math.inf) == (outcome is Wait)


# -- queries held meanwhile --------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("topic", "source"), [(LANES, (LANES, 0)), (TENANTS, TENANTS)], ids=["lane", "tenants"])
def test_hold_stops_reading_a_full_source(topic: str, source: Source) -> None:
    holding = Holding()
    assert holding.hold("acme", HELD - 1, topic) == []
    assert not holding.full
    assert holding.hold("acme", 1, topic) == []
    assert holding.full == {source}
    holding.held.release(next(holding.held.turns()))
    assert not holding.full


def test_turns_give_tenants_equal_cost() -> None:
    holding, served = Holding(), three().workers["cpu-0"].instances[FAST]
    holding.hold("acme", 60)
    holding.hold("zeta", 20)
    order: list[str | None] = []
    for held in holding.held.turns():
        order.append(held.query.tenant)
        holding.held.release(held)
        holding.held.forwarded(held, served)
    assert Counter(order[:40]) == {"acme": 20, "zeta": 20}
    assert set(order[40:]) == {"acme"}
    assert not holding.held


def test_is_in_the_way_after_others_passed() -> None:
    holding, served = Holding(), three().workers["cpu-0"].instances[FAST]
    holding.hold("acme")
    (stuck,) = holding.held.turns()
    for _ in range(HELD):
        assert not holding.held.is_in_the_way(stuck, NOW + 60.0)
        holding.hold("acme")
        for held in holding.held.turns():
            if held is not stuck:
                holding.held.release(held)
                holding.held.forwarded(held, served)
    assert holding.held.is_in_the_way(stuck, NOW + 60.0)
    assert not holding.held.is_in_the_way(stuck, NOW + 0.5), "it has not waited long"


def test_hold_moves_queries_beyond_the_limits_of_tenant_task_and_bytes() -> None:
    holding = Holding()
    assert holding.hold("acme", HELD) == []
    assert holding.hold("acme", 2) == 2 * [lane_of("digits", "acme")]
    assert holding.hold("zeta") == []
    assert not holding.full, "a task's topic is read to its end"
    assert holding.held.of_lanes() == {}
    holding = Holding()
    for number in range(HELD_OF_TASK // HELD):
        assert holding.hold(f"t{number}", HELD) == []
    assert len(holding.hold("zeta")) == 1
    assert {held.place.topic for held in holding.held.drop()} == {TOPIC}
    assert not holding.held
    assert holding.hold("zeta", 1, size=1 << 24) == []
    assert len(holding.hold("zeta")) == 1, "bytes"


def test_turns_keep_reading_order_and_skip_released() -> None:
    holding = Holding()
    holding.hold("acme", 4)
    holding.hold("acme", 3, LANES)
    assert holding.held.of_lanes() == {"digits": 3}
    turns = holding.held.turns()
    first = next(turns)
    dropped = [held for held in holding.held.drop({(TOPIC, 0)}) if held is not first]
    assert [held.item for held in dropped] == [1, 2, 3]
    assert [held.place.topic for held in turns] == 3 * [LANES]
