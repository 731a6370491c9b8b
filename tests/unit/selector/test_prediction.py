"""Tests of predicted finish times: backlogs, slots, large queries, uneven inputs, urgency, and acknowledgements."""

import math

import pytest
from msgspec.structs import replace

from schemas.latency import PIECES_SHARE, BatchLatency
from selector.admission.overload import LoadShedder
from selector.policy.choice import Choice
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import finish_s
from tests.unit.selector.story import (
    BEST,
    FAST,
    GOOD,
    NO_UPGRADES,
    NOW,
    chosen,
    instance,
    profile,
    query,
    refused,
    registered,
    send,
    state_of,
    status,
    three,
    variant,
)


def of(state: ClusterState, name: str) -> Instance:
    return state.workers["cpu-0"].instances[name]


# -- backlogs and slots ------------------------------------------------------------------------------------------------


def one(name: str = FAST, *, ms: float = 1.0, slots: int = 2, max_batch: int = 8, **said: float) -> Instance:
    """Return the only instance of a worker, which says this of it."""
    state = state_of(registered(name, ms=ms, max_batch=max_batch))
    state.apply_status(status(replace(instance(name, max_batch=max_batch), **said), slots=slots), NOW)
    return of(state, name)


def test_backlog_drains_between_statuses_and_is_corrected_by_them() -> None:
    where, asked = three(), query(latency_ms=50, target=FAST)
    choice = chosen(asked, where)
    send(where, choice, 250)
    assert refused(asked, where)
    assert chosen(query(latency_ms=50, target=FAST, sent=NOW + 0.24), where, now=NOW + 0.24).predicted_s < 0.05
    for number in range(250):
        where.acknowledged(None, where.partitions(choice.variant)[0], 100 + number, NOW)
    where.apply_status(status(instance(FAST, unread=40), instance(GOOD)), NOW)
    assert of(where, FAST).waiting(NOW) == pytest.approx(250 + 3 * 40)


def test_prediction_applies_correction_and_slowdown() -> None:
    plain = one()
    for correction in (30.0, 2.0, 1.0):
        more_s = plain.variant.model_of(8, correction).promised_s(1) - plain.model.promised_s(1)
        assert finish_s(one(correction=correction), 1, NOW) - finish_s(plain, 1, NOW) == pytest.approx(more_s)
    assert finish_s(one(slowdown=30.0), 1, NOW) - plain.worker.hop_s == pytest.approx(30 * plain.model.promised_s(1))


def test_prediction_scales_backlog_by_queue_slowdown() -> None:
    idle_s = finish_s(one(), 1, NOW)
    assert finish_s(one(queue_slowdown=3.0), 1, NOW) == idle_s
    for slowdown in (1.0, 3.0):
        behind_s = finish_s(one(queued=80, queued_inputs=80, queue_slowdown=slowdown), 1, NOW)
        assert behind_s - idle_s == pytest.approx(slowdown * 10 * 2.75e-3)


@pytest.mark.parametrize(
    ("parallel", "predicted_s"),
    [(2, [0.004, 0.004, 0.008, 0.008, 0.012, 0.012, 0.016]), (1, [0.004, 0.008, 0.012, 0.016])],
)
def test_prediction_uses_a_free_slot_at_once(parallel: int, predicted_s: list[float]) -> None:
    """A batch takes 4 ms; a query is computed at once in the second slot, and waits for the first that ends then."""
    for queued, expected_s in enumerate(predicted_s):
        served = one(ms=4, max_batch=1, queued=queued, queued_inputs=queued, parallel=parallel)
        assert finish_s(served, 1, NOW) - served.worker.hop_s == pytest.approx(expected_s)


def test_backlog_drains_in_all_slots_of_its_instance() -> None:
    for slots, parallel in ((1, 2), (2, 1), (2, 2), (4, 2)):
        served = one(ms=4, max_batch=1, slots=slots, queued=100, queued_inputs=100, parallel=parallel)
        assert served.waiting(NOW + 0.04) == pytest.approx(100 - 10 * min(slots, parallel))


def test_instances_share_slots_by_backlog() -> None:
    where = state_of(registered(FAST, ms=1, max_batch=1), registered(GOOD, ms=4, max_batch=1))
    busy = instance(GOOD, queued=100, parallel=2, max_batch=1)
    for fast, shares in ((0, (2.0, 2 / 3)), (50, (2 * 400 / 450, 1.0)), (400, (1.0, 1.0))):
        said = instance(FAST, queued=fast, parallel=2, max_batch=1)
        where.apply_status(status(said, busy, slots=2, backlog_s=0.4), NOW)
        instances = where.workers["cpu-0"].instances
        assert (instances[GOOD].slots, instances[FAST].slots) == pytest.approx(shares)
        assert chosen(query(target=FAST), where).predicted_s > 0.19, "it lacks a slot"


def test_prediction_waits_only_if_all_slots_are_taken() -> None:
    where = state_of(registered(FAST, ms=1), registered(GOOD, ms=4))
    busy = instance(GOOD, queued=100)
    where.apply_status(status(instance(FAST), busy, slots=2, backlog_s=1.0), NOW)
    assert chosen(query(target=FAST), where).predicted_s < 0.05
    where.apply_status(status(instance(FAST), busy, epoch=2, slots=1, backlog_s=1.0), NOW)
    assert chosen(query(target=FAST), where).predicted_s > 0.9


@pytest.mark.parametrize(("queries", "inputs", "slots"), [(1, 6, 1), (2, 12, 2), (6, 6, 2), (0, 0, 0), (1, 64, 2)])
def test_instance_takes_a_slot_for_each_query_or_batch(queries: int, inputs: int, slots: int) -> None:
    """The first free slot is used, so one query makes no other wait."""

    def beside(queries: int, inputs: int) -> ClusterState:
        state = state_of(registered(FAST, ms=20), registered(GOOD, ms=20))
        busy = replace(instance(FAST, parallel=2), queued=queries, queued_inputs=inputs)
        backlog_s = 0.05 * bool(queries)
        state.apply_status(status(busy, instance(GOOD, parallel=2), slots=2, backlog_s=backlog_s), NOW)
        return state

    state = beside(queries, inputs)
    assert of(state, FAST).busy == slots
    assert of(state, GOOD).lacks_slot == (slots == 2)
    waits_s = finish_s(of(state, GOOD), 6, NOW) - finish_s(of(beside(0, 0), GOOD), 6, NOW)
    assert (waits_s == pytest.approx(0.0)) == (slots < 2)
    assert [of(beside(n, 6 * n), FAST).waiting_in_slot(NOW) for n in (1, 2)] == [0, 6]


@pytest.mark.parametrize(("offline", "delayed"), [(1, False), (2, True)])
def test_offline_work_delays_online_only_without_a_free_slot(offline: int, delayed: bool) -> None:
    state = state_of(registered(FAST, ms=50))
    said = replace(instance(FAST, queued=offline, parallel=2), queued_offline_inputs=offline)
    state.apply_status(status(said), NOW)
    worker = state.workers["cpu-0"]
    alone_s = worker.hop_s + worker.instances[FAST].model.promised_s(1)
    predicted_s = finish_s(worker.instances[FAST], 1, NOW)
    assert (predicted_s > alone_s + 0.02) is delayed


def test_queries_of_other_selectors_take_slots() -> None:
    """An acknowledgement shows two of them: with the query of this selector they fill both slots of the worker."""
    where = three()
    choice = chosen(query(target=FAST), where)
    where.sent(choice.instance, choice.partition, 1, NOW, NOW)
    beside = where.workers["cpu-0"].instances[GOOD]
    assert beside.others_wait_s(NOW) == 0.0
    where.acknowledged(choice.instance, choice.partition, 102, NOW)
    assert beside.others_wait_s(NOW) > 0.0


@pytest.mark.parametrize("offset", [-1, 97, 99, 100, 105])
def test_acknowledgements_of_a_batch_count_each_query(offset: int) -> None:
    """Three queries are acknowledged at once, or one after another: before, at and behind the known end."""
    accounts: list[object] = []
    for together in (True, False):
        where = three()
        choice = chosen(query(target=FAST), where)
        served, partition = choice.instance, choice.partition
        assert served is not None
        for _ in range(3):
            where.sent(served, partition, 1, NOW, NOW)
        if together:
            where.acknowledged(served, partition, offset, NOW, queries=3)
        else:
            for number in range(3):
                where.acknowledged(served, partition, offset + number if offset >= 0 else -1, NOW)
        state = [partition.end, partition.position, partition.unacked, round(served.level, 6), served.worker.free_at]
        accounts.append(state)
    assert accounts[0] == accounts[1]


@pytest.mark.parametrize("end", [-1, 0])
def test_acknowledgement_without_offset_leaves_end(end: int) -> None:
    """The broker only knows that it has the batch."""
    where = three()
    (partition, *_) = where.partitions(chosen(query(target=BEST), where).variant)
    partition.end = end
    for _ in range(3):
        where.sent(None, partition, 1, NOW, NOW)
    where.acknowledged(None, partition, -1, NOW, queries=3)
    assert (partition.end, partition.position, partition.unacked) == (end, -1, 0)


# -- uneven inputs and large queries -----------------------------------------------------------------------------------


CASCADE, EVEN = "cascade.t80.cpu", "large.onnx-fp32.cpu"
UNEVEN = (BatchLatency(1, 0.001, 0.012, mean_s=0.004), BatchLatency(8, 0.020, 0.080, mean_s=0.025))


def test_uneven_variant_is_priced_by_mean_and_chosen_if_p99_is_in_time() -> None:
    state = state_of(
        (variant(CASCADE), replace(profile(CASCADE), latency=UNEVEN)), (variant(EVEN), profile(EVEN, ms=8))
    )
    state.apply_status(status(instance(CASCADE), instance(EVEN)), NOW)
    choice = chosen(query(latency_ms=18), state)
    assert choice.variant.name == CASCADE
    assert choice.cost == pytest.approx(0.004 * 0.048 / 3.6)
    assert choice.predicted_s >= 0.012
    assert chosen(query(latency_ms=13), state).variant.name == EVEN
    refused(query(latency_ms=7), state)


LARGE = 6000
WAITING_LARGE = {"queued": 3, "queued_inputs": 3 * LARGE, "queued_large": 3, "queued_large_inputs": 3 * LARGE}


def large(count: int = 0, *, offset: int = 100, **said: float) -> ClusterState:
    """Return a state with one instance, which gets `count` large queries, acknowledged at this offset."""
    state = state_of(registered(FAST, ms=1))
    state.apply_status(status(replace(instance(FAST), **said)), NOW)
    for number in range(count):
        choice = chosen(query(batch=LARGE, id=str(number)), state)
        state.sent(choice.instance, choice.partition, LARGE, NOW, NOW)
        state.acknowledged(choice.instance, choice.partition, offset, NOW, LARGE)
    return state


@pytest.mark.parametrize("where", [large(**WAITING_LARGE), large(3), large(3, **WAITING_LARGE)])
def test_large_queries_cause_no_refusal_of_small_ones(where: ClusterState) -> None:
    """As they wait at the worker, as they are sent, and as both: three of them take seconds, others go between."""
    outcome = LoadShedder(NO_UPGRADES).decide(query(latency_ms=30), where, NOW)
    assert isinstance(outcome, Choice)
    assert outcome.predicted_s < 0.03


def test_prediction_of_small_query_adds_one_piece_of_a_large_one() -> None:
    alone = one(queued=4, queued_inputs=4)
    beside = one(queued=5, queued_inputs=4 + LARGE, queued_large=1, queued_large_inputs=LARGE)
    backlog_s = alone.model.batch_s(alone.waiting_in_slot(NOW))
    added_s = backlog_s * (1 / (1 - PIECES_SHARE) - 1) + alone.model.query_s(alone.model.piece_inputs)
    assert finish_s(beside, 1, NOW) - finish_s(alone, 1, NOW) == pytest.approx(added_s)


def test_prediction_of_large_query_adds_other_large_ones() -> None:
    idle, behind = one(), one(queued=1, queued_inputs=LARGE, queued_large=1, queued_large_inputs=LARGE)
    hop_s, model = idle.worker.hop_s, idle.model
    assert finish_s(idle, LARGE, NOW) == pytest.approx(hop_s + model.query_s(LARGE))
    assert finish_s(one(large_factor=3.0), LARGE, NOW) == pytest.approx(hop_s + 3 * model.query_s(LARGE))
    assert finish_s(behind, LARGE, NOW) == pytest.approx(hop_s + model.query_s(2 * LARGE))
    assert model.query_s(LARGE) > LARGE * model.input_s(), "calls and pieces cost, too"


def test_large_inputs_count_until_reported_done() -> None:
    where = large(1)
    for read, held, counted in ((100, 0, LARGE), (101, 1, LARGE), (101, 0, 0)):
        said = instance(FAST, queued=held)
        partitions = tuple(replace(p, position=read, end=read) for p in said.partitions)
        inputs = held * LARGE
        said = replace(said, partitions=partitions, queued_inputs=inputs, queued_large=held, queued_large_inputs=inputs)
        where.apply_status(status(said), NOW + 0.1)
        assert of(where, FAST).large_inputs == counted, (read, held)
    assert of(where, FAST).mean_inputs == 1.0


# -- urgency -----------------------------------------------------------------------------------------------------------


BATCH_S = 0.016
"""Seconds of a batch of one input of the slow variant, which is one slot's only work."""
WAITING = 20
SOON, LATE = 0.06, 0.9
"""Seconds to the deadline of an urgent query, and of the waiting work."""


def busy(waiting: tuple[int, ...], backlog_s: float = WAITING * BATCH_S, unread: int = 0) -> ClusterState:
    """Return the state of a worker with one slot, and with work of a slow variant by level of urgency."""
    state = state_of(registered(FAST, ms=1, accuracy=0.8), registered(BEST, ms=16, max_batch=1))
    slow = instance(BEST, queued=sum(waiting), unread=unread, max_batch=1)
    said = status(instance(FAST), replace(slow, waiting_inputs=waiting), slots=1, backlogs_s=(backlog_s,))
    state.apply_status(said, NOW)
    return state


def wait_s(state: ClusterState, left_s: float, now: float = NOW) -> float:
    """Return the predicted wait of a fast query that is due in `left_s`."""
    fast = of(state, FAST)
    idle_s = fast.worker.hop_s + fast.model.promised_s(1)
    return finish_s(fast, 1, now, due_s=now + left_s) - idle_s


LATE_WORK = (0, 0, 0, 0, 0, 0, WAITING)


def test_urgent_query_is_not_refused_behind_less_urgent_work() -> None:
    assert chosen(query(latency_ms=1e3 * SOON, target=FAST), busy(LATE_WORK)).variant.name == FAST
    refused(query(latency_ms=1e3 * SOON, target=FAST), busy((0, 0, WAITING)))


@pytest.mark.parametrize("left_s", [LATE, 3.0, math.inf])
def test_query_waits_for_work_as_urgent(left_s: float) -> None:
    assert wait_s(busy(LATE_WORK), left_s) == pytest.approx(WAITING * BATCH_S)


def test_query_waits_for_more_urgent_share_of_work() -> None:
    mixed = busy((0, 5, 0, 0, 0, 0, 15))
    assert [wait_s(mixed, left_s) for left_s in (SOON, LATE)] == pytest.approx([5 * BATCH_S, WAITING * BATCH_S])


def test_query_waits_for_running_batch_of_less_urgent_work() -> None:
    """Nothing is preempted: 10 ms are left of a batch at first, and all of the next one when it ends."""
    running = busy(LATE_WORK, WAITING * BATCH_S + 0.010)
    waits_s = [wait_s(running, SOON, NOW + passed_s) for passed_s in (0.0, 0.008, 0.012, 0.024)]
    assert waits_s == pytest.approx([0.010, 0.002, BATCH_S - 0.002, BATCH_S - 0.014], abs=1e-6)


def test_unread_work_is_overtaken_as_work_that_waits_at_the_worker() -> None:
    """Queries of the instance itself do not overtake it, as a worker reads in the order of the log."""
    unknown, alike = busy((), 0.0, unread=5), busy((0, 0, 0, 0, 0, 0, 4), 4 * BATCH_S, unread=5)
    assert wait_s(unknown, SOON) == pytest.approx(20 * BATCH_S)
    assert wait_s(alike, SOON) < 2 * BATCH_S < 23 * BATCH_S < wait_s(alike, LATE)
    assert finish_s(of(alike, BEST), 1, NOW, due_s=NOW + SOON) > 19 * BATCH_S


def test_sent_query_is_overtaken_unless_it_begins_at_once() -> None:
    state = busy((), 0.0)
    slow = of(state, BEST)
    state.sent(slow, slow.partitions[0], 1, NOW, NOW + LATE)
    assert wait_s(state, SOON) == pytest.approx(BATCH_S, rel=1e-3), "it has a free slot"
    for _ in range(WAITING):
        state.sent(slow, slow.partitions[0], 1, NOW, NOW + LATE)
    assert wait_s(state, SOON) == pytest.approx(BATCH_S, rel=1e-3)
    assert wait_s(state, LATE) == pytest.approx((WAITING + 1) * BATCH_S, rel=1e-3)


def test_urgent_query_overtakes_work_of_its_own_instance() -> None:
    slow = of(busy(LATE_WORK, WAITING * BATCH_S + 0.005), BEST)
    alone_s = slow.worker.hop_s + BATCH_S
    assert finish_s(slow, 1, NOW, due_s=NOW + SOON) < alone_s + BATCH_S
    assert finish_s(slow, 1, NOW, due_s=NOW + LATE) == pytest.approx(alone_s + WAITING * BATCH_S)


def test_large_and_offline_queries_overtake_nothing() -> None:
    state = busy(LATE_WORK)
    fast = of(state, FAST)
    large = fast.model.piece_inputs + fast.model.max_batch + 1
    for inputs, offline in ((large, False), (1, True)):
        urgent_s = finish_s(fast, inputs, NOW, offline, due_s=NOW + SOON)
        assert urgent_s == finish_s(fast, inputs, NOW, offline) > WAITING * BATCH_S


def test_next_status_replaces_less_urgent_work() -> None:
    state = busy(LATE_WORK)
    idle = status(instance(FAST), instance(BEST, max_batch=1), slots=1, backlogs_s=(0.0,))
    state.apply_status(idle, NOW + 0.1)
    assert not any(state.workers["cpu-0"].later_s)
    assert not any(of(state, BEST).later_inputs)
