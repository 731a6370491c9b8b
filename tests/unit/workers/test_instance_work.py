from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import pytest

from schemas.latency import BatchLatency, LatencyModel
from schemas.status import InstanceState, InstanceStatus, PartitionStatus
from workers.serving.instance_work import InstanceWork
from workers.serving.measured_work import InstanceBacklog
from workers.slots.batch_queue import NO_DEADLINE, BatchQueue, WaitingBatches
from workers.slots.footprint import Footprint, footprint_in

NOW = 1000.0
INPUT_S = 0.01
LATENCY = LatencyModel([BatchLatency(1, INPUT_S, INPUT_S), BatchLatency(8, 8 * INPUT_S, 8 * INPUT_S)], max_batch=8)
"""Latency of batches that gain little by their size."""


@dataclass(eq=False)
class Work:
    inputs: int = 1
    shape: Hashable = ()
    extra_s: float = 0.0
    deadline_s: float = NO_DEADLINE
    offline: bool = False
    allow_late: bool = False


@dataclass
class Answers:
    answered: int = 0
    inputs: int = 0
    late: int = 0
    expired: int = 0


def instance(
    parallel: int = 1, *, width: int = 1, lengths_vary: bool = False, waiting: Iterable[Work] = ()
) -> InstanceWork[int, Work]:
    """Return the work of an instance that is `waiting`."""
    queue: BatchQueue[Work] = BatchQueue(LATENCY)
    for work in waiting:
        queue.add(work)
    footprint = Footprint(width, parallel, is_concurrent=width == 1)
    return InstanceWork(queue, footprint, NOW, lengths_vary=lengths_vary)


def compute(work: InstanceWork[int, Work], batch: list[Work], seconds: float, times: int = 100) -> float:
    """Record batches that were computed; return the last profiled seconds."""
    return [
        work.computed(batch, seconds, NOW + number, slot=0, consecutive=True, left=False) for number in range(times)
    ][-1]


@pytest.mark.parametrize(
    ("slots", "taken", "thread_safe", "expected"),
    [
        (4, 1, True, Footprint(1, 4, is_concurrent=True)),
        (4, 1, False, Footprint(1, 1, is_concurrent=False)),
        (4, 2, True, Footprint(2, 1, is_concurrent=False)),
        (2, 4, True, Footprint(2, 1, is_concurrent=False)),
        (1, 4, True, Footprint(1, 1, is_concurrent=True)),
    ],
)
def test_footprint_in_slots(slots: int, taken: int, thread_safe: bool, expected: Footprint) -> None:
    assert footprint_in(slots, taken, is_concurrent=thread_safe) == expected


def test_backlog_counts_inputs_until_removed() -> None:
    backlog: InstanceBacklog[tuple[str, int]] = InstanceBacklog()

    def counts() -> tuple[int, int, int, int]:
        return backlog.online, backlog.large, backlog.large_queries, backlog.offline

    backlog.add(("a", 0), 3, large=False, offline=False)
    backlog.add(("a", 1), 500, large=True, offline=False)
    backlog.add(("b", 1), 700, large=True, offline=True)
    backlog.add(("b", 2), 5, large=False, offline=False)
    assert counts() == (8, 500, 1, 700)
    backlog.remove(("a", 0))
    backlog.remove(("a", 0))
    assert counts() == (5, 500, 1, 700)
    backlog.remove_matching(lambda key: key[1] == 1)
    assert counts() == (5, 0, 0, 0)


def test_instance_work_next_batch_predicts_with_slowdown() -> None:
    expired, first, second = Work(deadline_s=NOW), Work(), Work(extra_s=INPUT_S)
    work = instance(waiting=(expired, first, second))
    work.use_latency_model(LatencyModel([BatchLatency(1, INPUT_S, INPUT_S)], 1, 2.0), lengths_vary=False)
    work.meter.slowdown = 3.0
    assert work.next_batch(1, NOW) == ([first], [expired])
    assert work.predicted_s([first]) == pytest.approx(2.0 * 3.0 * INPUT_S)
    assert work.predicted_s([second]) == pytest.approx((2.0 + 1.0) * 3.0 * INPUT_S)


def test_instance_work_slowdown_excludes_lengths() -> None:
    """Inputs three times as long as profiled take three times as long, without a slowdown."""
    vary, same = instance(lengths_vary=True), instance()
    long = [Work(extra_s=2 * INPUT_S)]
    assert compute(vary, long, 3 * INPUT_S) == pytest.approx(3 * INPUT_S)
    assert compute(same, long, 3 * INPUT_S) == pytest.approx(INPUT_S)
    assert vary.slowdown == pytest.approx(1.0, abs=0.1)
    assert same.slowdown == same.meter.slowdown == pytest.approx(3.0, abs=0.3)
    compute(vary, [Work(extra_s=-0.9 * INPUT_S)], 0.1 * INPUT_S)
    assert vary.slowdown == pytest.approx(1.0, abs=1.0), "the factor of short inputs has a least value"


@pytest.mark.parametrize(("offline", "grows"), [(False, True), (True, False)])
def test_instance_work_queue_slowdown_excludes_offline_batches(offline: bool, grows: bool) -> None:
    work = instance()
    for number in range(100):
        now_s = NOW + 3 * INPUT_S * number
        work.computed([Work(offline=offline)], INPUT_S, now_s, slot=0, consecutive=True, left=True)
    assert work.meter.queue_slowdown == pytest.approx(3.0 if grows else 1.0, abs=0.1)


def test_instance_work_reads_no_offline_query_while_large_one_waits() -> None:
    work = instance()
    work.queue.add_large("", [Work(), Work()], NOW)
    assert work.offline_room(NOW, online=False) == 0


@pytest.mark.parametrize(
    ("waiting", "online", "room"),
    [
        ((), False, 2 * LATENCY.best_batch + 1),
        ((Work(5, offline=True),), False, 2 * LATENCY.best_batch + 1 - 5),
        ((Work(),), False, 0),
        ((), True, 4),
    ],
)
def test_instance_work_offline_room_keeps_slots_busy(waiting: tuple[Work, ...], online: bool, room: int) -> None:
    assert instance(parallel=2, waiting=waiting).offline_room(NOW, online=online) == room


def test_instance_work_waiting_batches_include_slowdown() -> None:
    work = instance(width=2, waiting=[Work() for _ in range(LATENCY.best_batch + 1)])
    work.meter.slowdown = 2.0
    seconds = [2.0 * LATENCY.batch_s(size) for size in (LATENCY.best_batch, 1)]
    assert work.waiting_batches() == [WaitingBatches(each, 1, 2) for each in seconds]


def test_instance_work_load_is_of_small_online_queries() -> None:
    work = instance(parallel=2)
    work.arrived(1, 120, large=False, offline=False)
    work.arrived(2, 500, large=True, offline=False)
    work.arrived(3, 500, large=False, offline=True)
    work.update_health(NOW + 2.0, 0)
    assert work.meter.load == pytest.approx(120 * LATENCY.input_s() / 2 / 2.0)
    assert work.meter.online_per_query == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("parallel", "queued", "unread", "state"),
    [
        (1, 0, 0, InstanceState.ACTIVE),
        (1, 130, 0, InstanceState.OVERLOADED),
        (2, 130, 0, InstanceState.ACTIVE),
        (1, 50, 80, InstanceState.OVERLOADED),
        (1, 50, 10, InstanceState.ACTIVE),
    ],
)
def test_instance_work_health_follows_backlog(parallel: int, queued: int, unread: int, state: InstanceState) -> None:
    work = instance(parallel, waiting=[Work() for _ in range(queued)])
    work.arrived(1, 1, large=False, offline=False)
    work.update_health(NOW + 0.9, unread)
    assert work.state is InstanceState.ACTIVE, "the period has not ended"
    work.update_health(NOW + 1.0, unread)
    assert work.state is state
    work.update_health(NOW + 1.5, 10_000)
    assert work.state is state, "another period has begun"


def test_instance_work_status_reports_measures_and_backlog() -> None:
    work = instance(parallel=2)
    work.arrived(1, 3, large=False, offline=False)
    work.arrived(2, 500, large=True, offline=False)
    work.arrived(3, 7, large=False, offline=True)
    work.state = InstanceState.DRAINING
    compute(work, [Work(4)], 8 * INPUT_S)
    online, offline = PartitionStatus(0, 5, 6), PartitionStatus(0, 7, 7)
    found = work.with_batches(
        work.status("v", Answers(9, 8, 7, 6), partitions=[online], offline_partitions=[offline], queued=3),
        waiting=[Work(3, deadline_s=NOW + 0.3)],
        done_inputs=1.5,
        now_s=NOW,
    )
    assert found == InstanceStatus(
        variant="v",
        state=InstanceState.DRAINING,
        partitions=(online,),
        offline_partitions=(offline,),
        queued=3,
        queued_inputs=510,
        queued_offline_inputs=7,
        queued_large=1,
        queued_large_inputs=500,
        waiting_inputs=(0, 0, 0, 0, 3),
        done_inputs=1.5,
        max_batch=8,
        parallel=2,
        batch_size=4.0,
        batch_s=8 * INPUT_S,
        slowdown=work.meter.slowdown,
        queue_slowdown=work.meter.queue_slowdown,
        answered=9,
        inputs=8,
        late=7,
        expired=6,
    )
    assert found.queue_slowdown == pytest.approx(2.0, abs=0.1)
