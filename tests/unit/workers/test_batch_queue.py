"""Tests of the batch queue, and of slot backlogs."""

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from schemas.latency import BATCH_OVERHEAD_S, BatchLatency, LatencyModel
from schemas.urgency import LEAST_URGENT
from workers.slots.batch_queue import (
    NO_DEADLINE,
    BatchQueue,
    WaitingBatches,
    inputs_by_urgency,
    share_of_slot,
    slot_backlogs_s,
)

NOW = 1000.0
LATENCY = LatencyModel([BatchLatency(1, 0.010, 0.010), BatchLatency(8, 0.024, 0.024)], max_batch=8)


@dataclass(eq=False)
class Waiting:
    inputs: int = 1
    shape: Hashable = "a"
    extra_s: float = 0.0
    deadline_s: float = NO_DEADLINE
    offline: bool = False
    allow_late: bool = False


deadlines = st.one_of(st.just(NO_DEADLINE), st.floats(NOW - 0.05, NOW + 0.2))
work = st.builds(
    Waiting, st.integers(1, 8), st.sampled_from("abc"), st.just(0.0), deadlines, st.booleans(), st.booleans()
)  # fmt: skip
works = st.lists(work, min_size=1, max_size=40)
slowdowns = st.floats(0.5, 5.0)


def queue_of(items: list[Waiting]) -> BatchQueue[Waiting]:
    queue: BatchQueue[Waiting] = BatchQueue(LATENCY)
    for item in items:
        queue.add(item)
    return queue


def late(item: Waiting) -> bool:
    return item.deadline_s <= NOW


def end_s(items: list[Waiting], slowdown: float) -> float:
    return NOW + LATENCY.batch_s(sum(item.inputs for item in items)) * slowdown


@given(works, slowdowns)
def test_batch_queue_returns_each_query_once(items: list[Waiting], slowdown: float) -> None:
    queue, seen = queue_of(items), list[Waiting]()
    while (chosen := queue.next_batch(NOW, slowdown)).batch:
        seen += chosen.batch + chosen.expired
    assert sorted(map(id, seen + chosen.expired)) == sorted(map(id, items))
    assert (queue.online_inputs, queue.offline_inputs, queue.urgency()) == (0, 0, None)


@given(works, slowdowns)
def test_batch_queue_returns_batch_while_work_waits(items: list[Waiting], slowdown: float) -> None:
    worth = [item for item in items if not late(item) or item.allow_late]
    assert bool(queue_of(items).next_batch(NOW, slowdown).batch) == bool(worth)


@given(works, slowdowns)
def test_batch_queue_drops_only_expired_queries(items: list[Waiting], slowdown: float) -> None:
    chosen = queue_of(items).next_batch(NOW, slowdown)
    assert all(late(item) and not item.allow_late for item in chosen.expired)
    assert not any(late(item) and not item.allow_late for item in chosen.batch)


@given(works, slowdowns)
def test_batch_has_one_shape_and_mode_and_fits(items: list[Waiting], slowdown: float) -> None:
    batch = queue_of(items).next_batch(NOW, slowdown).batch
    assert len({(item.shape, item.offline) for item in batch}) <= 1
    assert sum(item.inputs for item in batch) <= LATENCY.max_batch


@given(works, slowdowns)
def test_batch_queue_takes_online_before_offline(items: list[Waiting], slowdown: float) -> None:
    queue = queue_of(items)
    chosen = queue.next_batch(NOW, slowdown)
    if chosen.batch and chosen.batch[0].offline:
        assert queue.online_inputs == 0


@given(works, slowdowns)
def test_batch_makes_no_query_late(items: list[Waiting], slowdown: float) -> None:
    batch = queue_of(items).next_batch(NOW, slowdown).batch
    for item in batch:
        if end_s([item], slowdown) <= item.deadline_s:
            assert end_s(batch, slowdown) <= item.deadline_s


@given(works, slowdowns)
def test_batch_is_largest_for_earliest_deadline(items: list[Waiting], slowdown: float) -> None:
    queue = queue_of(items)
    batch = queue.next_batch(NOW, slowdown).batch
    if not batch:
        return
    can_meet = [item for item in batch if end_s([item], slowdown) <= item.deadline_s]
    earliest = min((item.deadline_s for item in can_meet), default=NO_DEADLINE)
    for other in queue.waiting():
        if (other.shape, other.offline) == (batch[0].shape, batch[0].offline):
            bigger = [*batch, other]
            too_big = sum(item.inputs for item in bigger) > LATENCY.best_batch
            assert too_big or end_s(bigger, slowdown) > earliest


@given(works, slowdowns)
def test_batch_contains_most_urgent_feasible_query(items: list[Waiting], slowdown: float) -> None:
    items = [item for item in items if item.shape == "a" and not item.offline]
    batch = queue_of(items).next_batch(NOW, slowdown).batch
    can_meet = [item for item in items if not late(item) and end_s([item], slowdown) <= item.deadline_s]
    if can_meet:
        first = min(can_meet, key=lambda item: item.deadline_s)
        assert any(item.deadline_s == first.deadline_s for item in batch)


def test_batch_queue_orders_equal_deadlines_by_arrival() -> None:
    items = [Waiting() for _ in range(20)]
    queue = queue_of(items)
    order = [*queue.next_batch(NOW, 1.0).batch, *queue.next_batch(NOW, 1.0).batch, *queue.next_batch(NOW, 1.0).batch]
    assert list(map(id, order)) == list(map(id, items))


def test_batch_queue_discard_keeps_other_work() -> None:
    items = [Waiting(inputs=2) for _ in range(4)]
    queue = queue_of(items)
    queue.discard(items[:3])
    assert queue.online_inputs + queue.offline_inputs == 2
    assert queue.next_batch(NOW, 1.0).batch == items[3:]


def test_batch_grows_only_while_throughput_grows() -> None:
    knee = LatencyModel([BatchLatency(1, 0.010, 0), BatchLatency(4, 0.020, 0), BatchLatency(8, 0.060, 0)], max_batch=8)
    flat = LatencyModel([BatchLatency(1, 0.010, 0), BatchLatency(8, 0.081, 0)], max_batch=8)
    assert (LATENCY.best_batch, knee.best_batch, flat.best_batch) == (8, 4, 3)
    queue: BatchQueue[Waiting] = BatchQueue(knee)
    for _ in range(8):
        queue.add(Waiting())
    assert len(queue.next_batch(NOW, 1.0).batch) == 4


def model_of(first_s: float, growths: list[float]) -> LatencyModel:
    measured = [BatchLatency(2**size, first_s * math.prod(growths[:size]), 0) for size in range(len(growths) + 1)]
    return LatencyModel(measured, max_batch=2 ** len(growths))


models = st.builds(model_of, st.floats(1e-5, 0.1), st.lists(st.floats(1.0, 2.0), max_size=5))


@given(models, st.integers(1, 200), st.integers(1, 16), st.data())
def test_share_of_slot_splits_only_if_faster(
    latency: LatencyModel, waiting: int, slots: int, data: st.DataObject
) -> None:
    maximum = data.draw(st.integers(1, latency.max_batch))
    share = share_of_slot(waiting, slots, latency, maximum)
    assert 1 <= share <= maximum
    whole = min(waiting, maximum)
    if share < whole:
        assert share * slots >= waiting, "the slots that are free take all that waits"
        assert latency.batch_s(whole) - latency.batch_s(share) > BATCH_OVERHEAD_S
    elif waiting <= maximum:
        even = math.ceil(waiting / slots)
        assert latency.batch_s(whole) - latency.batch_s(even) <= BATCH_OVERHEAD_S, "to split it would have paid"


@given(models, st.integers(1, 200))
def test_share_of_slot_of_single_slot_is_best_batch(latency: LatencyModel, waiting: int) -> None:
    assert share_of_slot(waiting, 1, latency, latency.best_batch) == latency.best_batch


@given(models)
def test_best_batch_is_smallest_of_near_best_throughput(latency: LatencyModel) -> None:
    def rate(batch: int) -> float:
        return batch / (latency.batch_s(batch) + BATCH_OVERHEAD_S)

    best, highest = latency.best_batch, max(map(rate, range(1, latency.max_batch + 1)))
    assert rate(best) >= 0.99 * highest
    assert all(rate(batch) < 0.995 * highest for batch in range(1, best))


def test_share_of_slot_halves_small_queue_and_not_backlog() -> None:
    linear = LatencyModel([BatchLatency(1, 0.006, 0), BatchLatency(32, 0.150, 0)], max_batch=32)
    assert share_of_slot(8, 2, linear, 10) == 4
    assert share_of_slot(19, 2, linear, 10) == 10
    assert share_of_slot(1000, 2, linear, 10) == 10
    tiny = LatencyModel([BatchLatency(1, 26e-6, 0), BatchLatency(16, 350e-6, 0)], max_batch=16)
    assert share_of_slot(8, 2, tiny, 16) == 16, "to hand it to another thread takes longer"


class Served(RuleBasedStateMachine):
    """State machine: work arrives, is computed, expires or is discarded; time and the batch limit change."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: BatchQueue[Waiting] = BatchQueue(LATENCY)
        self.now_s = NOW
        self.waiting: list[Waiting] = []

    @rule(items=st.lists(work, max_size=6), after_s=st.sampled_from([0.0, 0.01, 0.1]))
    def come(self, items: list[Waiting], after_s: float) -> None:
        self.now_s += after_s
        for item in items:
            shifted = replace(item, deadline_s=item.deadline_s + self.now_s - NOW)
            self.queue.add(shifted)
            self.waiting.append(shifted)

    @rule(slowdown=slowdowns)
    def compute(self, slowdown: float) -> None:
        batch, expired = self.queue.next_batch(self.now_s, slowdown)
        for item in [*batch, *expired]:
            self.waiting.remove(item)  # raises if the queue returned it before
        assert all(item.deadline_s <= self.now_s and not item.allow_late for item in expired)
        assert not any(item.deadline_s <= self.now_s and not item.allow_late for item in batch)
        assert len(batch) <= 1 or sum(item.inputs for item in batch) <= self.queue.latency.max_batch
        assert batch or not self.waiting, "while anything waits there is a batch"

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        numbers = data.draw(st.sets(st.integers(0, max(len(self.waiting) - 1, 0))))
        gone = [item for number, item in enumerate(self.waiting) if number in numbers]
        self.queue.discard(gone)
        self.waiting = [item for item in self.waiting if item not in gone]

    @rule(most=st.integers(1, 8))
    def limit(self, most: int) -> None:
        self.queue.use_latency_model(LatencyModel([BatchLatency(1, 0.01, 0.01), BatchLatency(8, 0.024, 0.024)], most))

    @invariant()
    def nothing_is_lost_or_counted_wrong(self) -> None:
        assert sorted(map(id, self.queue.waiting())) == sorted(map(id, self.waiting))
        held = self.queue.online_inputs + self.queue.offline_inputs
        assert held == sum(item.inputs for item in self.waiting)
        assert self.queue.online_inputs == sum(item.inputs for item in self.waiting if not item.offline)
        assert (self.queue.urgency() is None) == (not self.waiting)


TestServed = Served.TestCase
TestServed.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_batch_of_longer_inputs_is_smaller() -> None:
    """Eight inputs as profiled take 24 ms; with 3 ms more for each, five take 33 ms."""

    def batch_of(extra_s: float, within_s: float) -> int:
        waiting = [Waiting(deadline_s=NOW + within_s, extra_s=extra_s) for _ in range(8)]
        return len(queue_of(waiting).next_batch(NOW, 1.0).batch)

    assert [batch_of(extra_s, 0.0331) for extra_s in (0.0, 0.003, -0.001)] == [8, 5, 8]
    assert [batch_of(extra_s, 0.0161) for extra_s in (0.0, 0.003, -0.001)] == [4, 1, 8]


def test_inputs_by_urgency_counts_levels_up_to_the_last() -> None:
    due_s = (-1.0, 0.025, 0.026, 0.3, 0.3)
    waiting = [Waiting(inputs=2, deadline_s=NOW + left_s) for left_s in due_s]
    assert inputs_by_urgency(waiting, NOW) == (4, 2, 0, 0, 4)
    assert inputs_by_urgency([Waiting(deadline_s=NO_DEADLINE)], NOW) == (*[0] * LEAST_URGENT, 1)
    assert inputs_by_urgency([], NOW) == ()


def test_batch_queue_waiting_online_leaves_offline_out() -> None:
    items = [Waiting(), Waiting(offline=True), Waiting(shape="other")]
    assert queue_of(items).waiting_online() == [items[0], items[2]]


def test_slot_backlogs_s_assigns_batches_to_earliest_slot() -> None:
    assert slot_backlogs_s([3.0, 1.0], []) == (1.0, 3.0)
    assert slot_backlogs_s([3.0, 1.0], [WaitingBatches(4.0, 1, 1)]) == (3.0, 5.0)
    assert slot_backlogs_s([3.0, 1.0], [WaitingBatches(4.0, 2, 1)]) == (5.0, 7.0)


def test_slot_backlogs_s_of_wide_batch_waits_for_enough_slots() -> None:
    assert slot_backlogs_s([0.0, 1.0, 3.0], [WaitingBatches(4.0, 1, 2)]) == (3.0, 5.0, 5.0)
    assert slot_backlogs_s([0.0, 1.0], [WaitingBatches(4.0, 1, 8)]) == (5.0, 5.0)


def test_slot_backlogs_s_totals_thousands_of_batches() -> None:
    soonest, last = slot_backlogs_s([0.0, 0.0], [WaitingBatches(0.5, 10_001, 1)])
    assert soonest <= 0.25 * 10_001 <= last
    assert soonest + last == 0.5 * 10_001
