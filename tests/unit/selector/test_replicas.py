"""Tests of many replicas, and of variants whose batches take several slots."""

from collections.abc import Callable
from contextlib import nullcontext
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.figures import percentile
from bench.scale.crowd import Crowd, full_walk
from schemas.query import Mode
from selector.dispatch.explanation import explain
from selector.policy import selection as policy
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.late_binding import Wait, bind
from selector.policy.prediction import finish_s
from selector.policy.replicas import FEW, TaskShare
from selector.policy.selection import choose
from tests.unit.selector.story import (
    FAST,
    GOOD,
    NO_UPGRADES,
    NOW,
    TASK,
    explained,
    instance,
    profile,
    query,
    registered,
    state_of,
    status,
    variant,
)

if TYPE_CHECKING:
    from schemas.query import Query


MANY = 300
MOST_LOOKED_AT = 16
DEFAULT = PolicyConfig()


def many(count: int, queued: Callable[[int], int] = lambda _: 0, now: float = NOW) -> ClusterState:
    """Return `count` workers, each with a cheap and a better variant and a queue of its own."""
    made = state_of(registered(FAST, ms=1, accuracy=0.8), registered(GOOD, ms=4, accuracy=0.9))
    for place in range(count):
        held = instance(FAST, partitions=(place,), queued=queued(place))
        made.apply_status(
            status(held, instance(GOOD, partitions=(place,), queued=queued(place)), worker=f"w{place}"), now
        )
    return made


def place_of(choice: Choice | Refusal) -> int:
    assert isinstance(choice, Choice)
    return choice.partition.number


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Instance]:
    """Record the instances for which a decision predicts a finish, in order."""
    seen: list[Instance] = []

    def counted(running: Instance, *arguments: Any, **named: Any) -> float:
        seen.append(running)
        return finish_s(running, *arguments, **named)

    monkeypatch.setattr(policy, "finish_s", counted)
    return seen


@pytest.mark.parametrize("queued", [0, 3, 5000])
@pytest.mark.parametrize("wait_s", [float("inf"), 0.01])
def test_choose_examines_few_of_many_replicas(looked_at: list[Instance], queued: int, wait_s: float) -> None:
    choose(query(latency_ms=100), many(MANY, lambda _: queued), NOW, DEFAULT, wait_s)
    assert len(looked_at) <= MOST_LOOKED_AT


@given(st.lists(st.integers(0, 200), min_size=1, max_size=FEW), st.floats(1, 500))
def test_choose_examines_all_of_few_replicas(queued: list[int], latency_ms: float) -> None:
    where, asked = many(len(queued), lambda place: queued[place]), query(latency_ms=latency_ms)
    outcome = choose(asked, where, NOW, DEFAULT)
    with full_walk():
        walked = choose(asked, where, NOW, DEFAULT)
    assert type(outcome) is type(walked)
    if isinstance(outcome, Choice) and isinstance(walked, Choice):
        assert (outcome.instance, outcome.predicted_s) == (walked.instance, walked.predicted_s)


@pytest.mark.parametrize(
    ("best", "queued", "others", "latency_ms"),
    [({7, 123, 250}, 0, 20, None), ({201}, 2, 500, 20.0)],
    ids=["idle", "only one in time"],
)
def test_choose_finds_best_of_many_replicas(best: set[int], queued: int, others: int, latency_ms: float | None) -> None:
    where = many(MANY, lambda place: queued if place in best else others)
    for number in range(20):
        asked = query(id=f"q{number}", target=FAST, latency_ms=latency_ms)
        assert place_of(choose(asked, where, NOW, DEFAULT)) in best


def test_replicas_of_left_workers_are_not_taken() -> None:
    where = many(MANY)
    for place in range(MANY):
        if place % 3:
            where.apply_status(status(worker=f"w{place}", leaving=True), NOW)
    for number in range(50):
        assert place_of(choose(query(id=f"q{number}"), where, NOW, DEFAULT)) % 3 == 0
    drawn = [bind(query(id=f"q{number}", mode=Mode.OFFLINE), where, NOW, DEFAULT) for number in range(50)]
    assert len({one.partition.number for one in drawn if isinstance(one, Choice)}) > FEW


def test_replica_is_idle_again_after_catching_up() -> None:
    where = many(MANY)
    taken = list[int]()
    for number in range(MANY):
        choice = choose(query(id=f"q{number}", target=FAST), where, NOW, DEFAULT)
        taken.append(place_of(choice))
        assert isinstance(choice, Choice)
        where.sent(choice.instance, choice.partition, 1, NOW, NOW)
    assert sorted(taken) == list(range(MANY))
    group = where.tasks[query().task].serving[FAST].group
    assert not group.idle
    later = choose(query(target=FAST), where, NOW + 0.5, DEFAULT)
    assert isinstance(later, Choice)
    where.sent(later.instance, later.partition, 1, NOW + 0.5, NOW)
    assert group.idle


@pytest.mark.parametrize("now", [NOW, 5e6, 10.0], ids=["since the epoch", "monotonic", "just started"])
@pytest.mark.parametrize("step_s", [1e-3, 1e-5])
def test_choose_varies_the_replica_over_time(now: float, step_s: float) -> None:
    where = many(MANY, now=now)
    asked = query(target=FAST)
    taken = [place_of(choose(asked, where, now + moment * step_s, DEFAULT)) for moment in range(20)]
    assert len(set(taken)) > 10
    again = many(MANY, now=now)
    assert taken == [place_of(choose(asked, again, now + moment * step_s, DEFAULT)) for moment in range(20)]


def test_explain_names_chosen_replica_of_many() -> None:
    where = many(MANY)
    for number in range(20):
        asked: Query = query(id=f"q{number}", latency_ms=100)
        outcome = choose(asked, where, NOW, DEFAULT)
        assert isinstance(outcome, Choice)
        assert outcome.instance is not None
        told = explained(explain(asked, where, NOW, DEFAULT, outcome))
        assert told["worker"] == outcome.instance.worker.name
        assert told["chosen"] == outcome.variant.name
        rows = told["considered"]
        assert isinstance(rows, list)
        assert rows[0]["worker"] == outcome.instance.worker.name
        assert rows[0]["verdict"] == "chosen"
        assert len(rows) <= 50
        assert told["not_listed"] == 2 * MANY - len(rows)


def p99_s(load: float, selectors: int, *, walk: bool = False) -> float:
    crowd = Crowd(60, selectors=selectors, seed=5)
    with full_walk() if walk else nullcontext():
        for _ in crowd.run(load, 0.5, DEFAULT):
            pass
        return percentile([sent.true_s for sent in crowd.run(load, 0.7, DEFAULT)], 0.99)


@pytest.mark.parametrize(("load", "selectors"), [(0.5, 1), (0.9, 1), (0.9, 4)])
def test_choose_has_p99_close_to_full_search(load: float, selectors: int) -> None:
    assert p99_s(load, selectors) <= 1.15 * p99_s(load, selectors, walk=True)


def test_selectors_do_not_flood_the_same_idle_replicas() -> None:
    assert p99_s(0.9, 6) <= 1.5 * p99_s(0.9, 1)


@given(st.integers(1, 40), st.integers(1, 24))
def test_apertures_cover_each_replica_evenly(size: int, partitions: int) -> None:
    ring = list(range(size))
    apertures = [TaskShare(frozenset({number}), partitions).aperture(ring) for number in range(partitions)]
    assert {place for aperture in apertures for place in aperture} == set(ring)
    assert all(0 < len(aperture) <= size / partitions + 2 for aperture in apertures)
    assert TaskShare(frozenset(range(partitions)), partitions).is_whole
    assert TaskShare(frozenset(), partitions).is_whole


@pytest.mark.parametrize("count", [FEW, MANY])
def test_choose_prefers_aperture_unless_it_is_slow(count: int) -> None:
    where = many(count)
    names = sorted(f"w{place}" for place in range(count))
    near, far = ({int(name[1:]) for name in half} for half in (names[: count // 2], names[count // 2 :]))
    where.use_shares({TASK: TaskShare(frozenset({0}), 2)})
    for number in range(20):
        assert place_of(choose(query(id=f"q{number}", latency_ms=100), where, NOW, DEFAULT)) in near
    for place in near:
        where.apply_status(status(instance(FAST, partitions=(place,), queued=400), worker=f"w{place}"), NOW)
    for number in range(20):
        assert place_of(choose(query(id=f"q{number}", latency_ms=100), where, NOW, DEFAULT)) in far
    where.use_shares({})
    assert where.tasks[TASK].serving[FAST].preferred(NOW) is where.tasks[TASK].serving[FAST].group


@pytest.mark.parametrize(("replicas", "partitions", "senders"), [(1, 8, 8.0), (2, 8, 4.0), (40, 8, 1.0)])
def test_upgrades_leave_room_for_those_of_other_selectors(replicas: int, partitions: int, senders: float) -> None:
    where = many(replicas)
    where.use_shares({TASK: TaskShare(frozenset({0}), partitions)})
    asked = [query(id=f"q{number}", latency_ms=100) for number in range(400)]
    choices = [choose(one, where, NOW, DEFAULT) for one in asked]
    upgraded = sum(isinstance(choice, Choice) and choice.upgraded for choice in choices)
    assert upgraded / len(asked) == pytest.approx(1 / senders, rel=0.5)
    assert isinstance(choices[0], Choice)
    where.sent(choices[0].instance, choices[0].partition, 1, NOW, NOW)
    assert sum(worker.sends.queries for worker in where.workers.values()) == senders


def test_replica_groups_are_consistent_after_any_statuses() -> None:
    draw = Random(7)
    where = many(40)
    serving = where.tasks[query().task].serving
    for step in range(2000):
        now, place = NOW + step / 1000, draw.randrange(40)
        held = instance(FAST, partitions=(place,), queued=draw.choice([0, 0, 1, 30]))
        where.apply_status(status(held, worker=f"w{place}", at=now), now)
        choice = choose(query(id=f"q{step}", sent=now), where, now, DEFAULT)
        if isinstance(choice, Choice):
            where.sent(choice.instance, choice.partition, 1, now, now)
        group = serving[FAST].group
        assert len(group.members) == len({running.worker.name for running in group.members}) == 40
        assert set(group.idle) <= set(group.members)
        assert all(running.waiting(now) < 0.01 for running in group.idle)


NARROW, WIDE = "mlp.onnx-fp32.cpu", "mlp.onnx-fp32.cpu2"
PRICE = 0.096


def both(*, slots: int = 2, threads: int = 1, queued: int = 0) -> ClusterState:
    """Return a state where WIDE takes two cores and two thirds of the time; `queued` queries wait for NARROW."""
    profiles = [profile(NARROW, ms=30.0), msgspec.structs.replace(profile(WIDE, ms=20.0), threads=2)]
    state = ClusterState()
    state.register([TASK], [variant(NARROW), variant(WIDE)], {p.variant: p for p in profiles})
    narrow = instance(NARROW, queued=queued, parallel=slots)
    said = status(narrow, instance(WIDE), slots=slots, price=PRICE, backlog_s=0.1 * bool(queued))
    state.apply_status(msgspec.structs.replace(said, threads=threads), NOW)
    return state


def wide_of(state: ClusterState) -> Instance:
    return state.workers["cpu-0"].instances[WIDE]


def test_wide_variant_is_priced_by_its_cores() -> None:
    cheap, dear = choose(query(), both(), NOW, NO_UPGRADES), choose(query(latency_ms=25.0), both(), NOW, NO_UPGRADES)
    assert isinstance(cheap, Choice)
    assert isinstance(dear, Choice)
    assert (cheap.variant.name, dear.variant.name) == (NARROW, WIDE), "the dear one only where it must be fast"
    assert cheap.variant.price == pytest.approx(PRICE / 2)
    assert dear.variant.price == pytest.approx(PRICE)
    assert dear.cost == pytest.approx(cheap.cost * 4 / 3)


def test_wide_variant_occupies_all_its_slots() -> None:
    state = both()
    wide = wide_of(state)
    state.sent(wide, wide.partitions[0], 1, NOW, NOW)
    assert wide.worker.wait_s(NOW, 1) == pytest.approx(wide.model.batch_s(1)), "two slots for so long"
    state.apply_status(status(instance(NARROW, parallel=2), instance(WIDE, queued=1)), NOW + 0.1)
    narrow = state.workers["cpu-0"].instances[NARROW]
    assert (wide.busy, narrow.lacks_slot) == (2, True)


def test_wide_variant_starts_when_all_its_slots_are_free() -> None:
    state = both()
    narrow = instance(NARROW, queued=1, parallel=2)
    state.apply_status(status(narrow, instance(WIDE), backlogs_s=(0.0, 0.1)), NOW)
    wide = wide_of(state)
    own_s = wide.model.batch_s(1)
    assert finish_s(wide, 1, NOW) > 0.1 + own_s
    state.sent(wide, wide.partitions[0], 1, NOW, NOW)
    assert wide.worker.free_at == pytest.approx([NOW + 0.1 + own_s] * 2)


def test_wide_variant_waits_for_a_taken_slot() -> None:
    free, taken = wide_of(both()), wide_of(both(queued=1))
    assert (free.lacks_slot, taken.lacks_slot) == (False, True)
    assert finish_s(taken, 1, NOW) > finish_s(free, 1, NOW) + 0.04
    assert not wide_of(both(slots=3, queued=1)).lacks_slot
    two_cores = wide_of(both(threads=2))
    assert (two_cores.width, two_cores.slots) == (1, 1.0)
    prices = [one.variant.price for one in two_cores.worker.instances.values()]
    assert prices == pytest.approx([PRICE / 2] * 2), "the other core of a slot is nobody else's"
    offline = query(mode=Mode.OFFLINE, target=WIDE)
    assert isinstance(bind(offline, both(), NOW, NO_UPGRADES), Choice)
    assert isinstance(bind(offline, both(queued=1), NOW, NO_UPGRADES), Wait)


@pytest.mark.parametrize(
    ("workers", "loadable"),
    [([(1, 1 << 40)], False), ([(2, 1 << 40)], True), ([(2, 1 << 20)], False), ([(2, 1 << 20), (1, 1 << 40)], False)],
)
def test_wide_variant_is_loadable_with_cores_and_memory(workers: list[tuple[int, int]], loadable: bool) -> None:
    """Slots and memory by worker; both must be the same worker's."""
    state, needs = ClusterState(), msgspec.structs.replace(profile(WIDE), threads=2, memory_bytes=1 << 30)
    state.register([TASK], [variant(WIDE)], {WIDE: needs})
    for number, (slots, memory) in enumerate(workers):
        state.apply_status(status(worker=f"cpu-{number}", slots=slots, memory=memory), NOW)
    assert state.tasks[TASK].is_loadable(state.tasks[TASK].variants[0]) is loadable
