"""Tests of late binding: the instances that get offline queries, and the reasons to wait."""

import math

import pytest

from schemas.errors import DeadlineExceeded, UnknownTask, Unsatisfiable
from schemas.query import Mode, Query
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


def test_bind_keeps_slots_for_cheaper_instance() -> None:
    where = three()
    where.apply_status(status(instance(FAST), instance(GOOD), slots=1, epoch=2), NOW)
    assert set(bound(where, offline())) == {FAST}


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


def test_bind_counts_offline_backlog_of_other_selectors() -> None:
    where = three()
    room = len(bound(three(), offline(target=FAST)))
    where.apply_status(status(instance(FAST, unread_offline=room // 8), instance(GOOD)), NOW + 0.1)
    served = where.workers["cpu-0"].instances[FAST]
    assert served.waiting(NOW + 0.1) == 0
    assert abs(len(bound(where, offline(target=FAST), NOW + 0.1)) - room / 2) <= 4


def test_bind_counts_offline_queries_between_statuses() -> None:
    where = three()
    room = len(bound(three(), offline(target=FAST)))
    served = where.workers["cpu-0"].instances[FAST]
    partition = served.offline_partitions[0]
    where.sent_offline(served, partition, 1, NOW)
    where.acknowledged(served, partition, room // 2, NOW)
    assert served.waiting(NOW) == 0
    assert abs(len(bound(where, offline(target=FAST))) - room / 2) <= 2


def test_bind_skips_workers_that_read_no_offline_topic_yet() -> None:
    where = three()
    where.apply_status(status(instance(FAST, reads_offline=False), instance(GOOD), epoch=2), NOW)
    assert set(bound(where, offline())) == {GOOD}
    assert bound(where, offline(target=FAST)) == []
    where.apply_status(status(instance(FAST), instance(GOOD), epoch=2), NOW + 0.1)
    assert bound(where, offline(target=FAST), NOW + 0.1)


def test_bind_gives_oversized_query_alone() -> None:
    assert len(bound(three(), offline(target=FAST, batch=100_000))) == 1


def test_bind_waits_for_unloaded_variant() -> None:
    outcome = bind(offline(target=BEST), three(), NOW, CONFIG)
    assert isinstance(outcome, Wait)
    assert outcome.wanted is not None
    assert outcome.wanted.name == BEST


def test_bind_refuses_unanswerable_query() -> None:
    for asked, error in (
        (offline(min_accuracy=0.99), Unsatisfiable),
        (offline(target="nobody"), UnknownTask),
        (offline(task="nothing"), UnknownTask),
        (offline(latency_ms=100.0, sent=NOW - 1), DeadlineExceeded),
    ):
        outcome = bind(asked, three(), NOW, CONFIG)
        assert isinstance(outcome, Refusal)
        assert isinstance(outcome.error, error)


def test_bind_accepts_late_query_if_allowed() -> None:
    assert isinstance(bind(offline(latency_ms=100.0, sent=NOW - 1, allow_late=True), three(), NOW, CONFIG), Choice)


def test_binder_evaluates_alike_waiting_queries_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []

    def counted(asked: Query, where: ClusterState, now: float, config: PolicyConfig) -> Choice | Refusal | Wait:
        evaluated.append(asked.id)
        return bind(asked, where, now, config)

    monkeypatch.setattr("selector.policy.late_binding.bind", counted)
    binder = LateBinder(three(), CONFIG)
    assert binder.retry_s == math.inf
    for number in range(3):
        assert isinstance(binder.bind(offline(target=BEST, id=f"q-{number}"), NOW), Wait)
    assert isinstance(binder.bind(offline(target=BEST, id="late", latency_ms=100.0, sent=NOW - 1), NOW), Refusal)
    assert isinstance(binder.bind(offline(target=FAST, id="fast"), NOW), Choice)
    assert evaluated == ["q-0", "late", "fast"]
    assert binder.retry_s < math.inf
