import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import Hashable
from dataclasses import dataclass

import pytest

from schemas.latency import BatchLatency, LatencyModel
from tests.waiting import PATIENCE_S, until
from workers.slots.batch_queue import NO_DEADLINE, BatchQueue, Rank, Urgency
from workers.slots.executor import BatchExecutor


class Batch:
    inputs = 1
    predicted_s = 1.0
    limit_s = 60.0
    shared = False
    consecutive = False

    def __init__(self, source: "Source", name: str) -> None:
        self.source = source
        self.name = name
        self.is_brief = source.short

    def compute(self, slot: int) -> None:
        self.source.compute(self.name)

    def set_aside(self) -> None:
        pass

    def abandon(self) -> None:
        self.source.abandoned.append(self.name)


class Source:
    """Source that computes its entries by urgency and logs them; each batch waits for `go`."""

    is_concurrent = True

    def __init__(self, executor: BatchExecutor, log: list[str], parallel: int = 1, width: int = 1) -> None:
        self.executor = executor
        self.parallel = parallel
        self.width = width
        self.work: list[tuple[Urgency, str]] = []
        self.log = log
        self.go = threading.Event()
        self.counting = threading.Lock()
        self.at_once = 0
        self.most_at_once = 0
        self.short = False
        self.threads: set[int] = set()
        self.abandoned: list[str] = []
        self.shares: list[int] = []
        self.batches: list[Batch] = []
        executor.add_source(self)

    def add(self, urgency: Urgency, name: str) -> None:
        with self.executor.lock:
            self.work.append((urgency, name))
            self.work.sort()

    def urgency(self) -> Urgency | None:
        return self.work[0][0] if self.work else None

    def next_batch(self, slots: int) -> Batch | None:
        self.shares.append(slots)
        _urgency, name = self.work.pop(0)
        self.batches.append(Batch(self, name))
        return self.batches[-1]

    def compute(self, name: str) -> None:
        with self.counting:
            self.threads.add(threading.get_ident())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.go.wait(PATIENCE_S)
        with self.counting:
            self.log.append(name)
            self.at_once -= 1


class Broken(Source):
    """Source whose batches raise, as by a programming error."""

    def compute(self, name: str) -> None:
        raise RuntimeError(name)


def open_executor(slots: int) -> tuple[BatchExecutor, list[BaseException]]:
    defects: list[BaseException] = []
    return BatchExecutor(slots, defects.append), defects


def test_executor_orders_by_rank_then_deadline_across_sources() -> None:
    executor, defects = open_executor(1)
    log: list[str] = []
    a, b = Source(executor, log), Source(executor, log)
    a.add((Rank.ONLINE, 0.0, 1), "first")
    executor.wake()  # occupies the only slot until `go` is set
    a.add((Rank.OFFLINE, 1.0, 2), "offline")
    a.add((Rank.ONLINE, 9.0, 3), "late")
    b.add((Rank.ONLINE, 3.0, 1), "early")
    executor.wake()
    a.go.set()
    b.go.set()
    executor.close()
    assert (log, defects) == (["first", "early", "late", "offline"], [])


async def test_executor_wake_soon_starts_most_urgent_batch() -> None:
    executor, defects = open_executor(1)
    log: list[str] = []
    later, sooner = Source(executor, log), Source(executor, log)
    for source, urgency in ((later, (Rank.ONLINE, 9.0, 2)), (sooner, (Rank.ONLINE, 3.0, 1))):
        source.go.set()
        source.add(urgency, f"until {urgency[1]}")
        executor.wake_soon()
    await until(lambda: len(log) == 2)
    await asyncio.to_thread(executor.close)
    assert (log, defects) == (["until 3.0", "until 9.0"], [])


async def test_executor_reports_defect_on_event_loop() -> None:
    executor, defects = open_executor(1)
    broken = Broken(executor, [])
    broken.short = True
    broken.add((Rank.ONLINE, 1.0, 1), "defect")
    executor.wake_soon()
    await until(lambda: bool(defects))
    assert [str(error) for error in defects] == ["defect"]
    executor.close()


async def test_executor_fills_all_slots_from_one_source() -> None:
    executor, defects = open_executor(3)
    source = Source(executor, [], parallel=3)
    for number in range(7):
        source.add((Rank.ONLINE, 1.0, number), str(number))
    executor.wake()
    await until(lambda: source.at_once == 3)
    assert source.shares == [3, 2, 1], "each is one of those for the slots that are free"
    source.go.set()
    executor.close()
    assert (sorted(source.log), source.most_at_once, defects) == ([str(n) for n in range(7)], 3, [])


async def test_executor_reserves_slots_for_urgent_wide_batch() -> None:
    executor, defects = open_executor(2)
    log: list[str] = []
    narrow, later, wide = Source(executor, log), Source(executor, log), Source(executor, log, width=2)
    narrow.add((Rank.ONLINE, 1.0, 1), "narrow")
    executor.wake()
    await until(lambda: narrow.at_once == 1)
    wide.add((Rank.ONLINE, 2.0, 2), "wide")
    later.add((Rank.ONLINE, 3.0, 3), "later")
    executor.wake()
    assert (wide.shares, later.shares) == ([], []), "the slot that is free is kept for the more urgent batch"
    narrow.go.set()
    await until(lambda: wide.at_once == 1)
    executor.wake()
    assert (later.shares, wide.shares) == ([], [1]), "it has both slots"
    before_s = executor.busy_s
    wide.go.set()
    later.go.set()
    executor.close()
    assert (log, defects) == (["narrow", "wide", "later"], [])
    assert executor.busy_s > before_s


async def test_executor_wide_batch_occupies_and_frees_its_slots() -> None:
    executor, defects = open_executor(3)
    wide, narrow = Source(executor, [], width=2), Source(executor, [], parallel=3)
    wide.add((Rank.ONLINE, 1.0, 1), "wide")
    executor.wake()
    await until(lambda: wide.at_once == 1)
    for number in range(3):
        narrow.add((Rank.ONLINE, 2.0, number), str(number))
    executor.wake()
    await until(lambda: narrow.at_once == 1)
    assert narrow.shares == [1], "one slot is left"
    wide.go.set()
    await until(lambda: narrow.at_once == 3)
    narrow.go.set()
    executor.close()
    assert defects == []


async def test_executor_starts_full_width_offline_batch_beside_online() -> None:
    executor, defects = open_executor(2)
    log: list[str] = []
    online, wide = Source(executor, log), Source(executor, log, width=2)
    for source in (online, wide):
        source.go.set()
    for number in range(10):
        online.add((Rank.ONLINE, 1.0, number), "online")
        executor.wake()
    await until(lambda: len(log) == 10)
    wide.add((Rank.OFFLINE, 9.0, 11), "offline")
    executor.wake()
    await until(lambda: len(log) == 11)
    executor.close()
    assert defects == []


async def test_executor_offline_batches_do_not_overtake_wide_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor, defects = open_executor(3)
    monkeypatch.setattr(executor, "expects_online", bool)  # true for any time: online work is expected
    log: list[str] = []
    first, second, later = Source(executor, log), Source(executor, log), Source(executor, log)
    wide = Source(executor, log, width=2)
    for number, source in enumerate((first, second, wide, later)):
        source.add((Rank.OFFLINE, 9.0, number), str(number))
    executor.wake()
    await until(lambda: first.at_once + second.at_once == 2)
    first.go.set()
    await until(lambda: log == ["0"])
    executor.wake()
    assert (wide.shares, later.shares) == ([], []), "what takes one slot would be before it as long as there is any"
    second.go.set()
    await until(lambda: wide.at_once == 1)
    for source in (wide, later):
        source.go.set()
    executor.close()
    assert (log, defects) == (["0", "1", "2", "3"], [])


@pytest.mark.parametrize("count", [1, 2])
async def test_executor_marks_batches_that_shared_device(count: int) -> None:
    executor, _ = open_executor(2)
    source = Source(executor, [], parallel=2)
    for number in range(count):
        source.add((Rank.ONLINE, 1.0, number), str(number))
        executor.wake()
        await until(lambda number=number: source.at_once == number + 1)
    source.go.set()
    executor.close()
    assert [batch.shared for batch in source.batches] == [count > 1] * count


async def test_executor_respects_parallel_limit_of_source() -> None:
    executor, _ = open_executor(3)
    one, two = Source(executor, [], parallel=1), Source(executor, [], parallel=2)
    for source in (one, two):
        for number in range(4):
            source.add((Rank.ONLINE, 1.0, number), str(number))
    executor.wake()
    await until(lambda: (one.at_once, two.at_once) == (1, 2))
    one.go.set()
    two.go.set()
    executor.close()
    assert (one.most_at_once, two.most_at_once) == (1, 2)


@pytest.mark.parametrize("rank", [Rank.PIECE, Rank.OFFLINE])
async def test_executor_keeps_slot_free_for_online_work(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr("broker.arrivals._IDLE_S", 3600.0)  # after an idle second offline work gets all slots
    executor, _ = open_executor(3)
    log: list[str] = []
    online, offline = Source(executor, log, parallel=3), Source(executor, log, parallel=3)
    online.go.set()
    online.add((Rank.ONLINE, 1.0, 0), "online")
    executor.wake()
    await until(lambda: log == ["online"])
    for number in range(5):
        offline.add((rank, 1.0, number), f"offline {number}")
    executor.wake()
    await until(lambda: offline.at_once == 2)
    online.add((Rank.ONLINE, 1.0, 9), "at once")
    executor.wake()
    await until(lambda: log == ["online", "at once"])
    assert offline.at_once == 2
    offline.go.set()
    executor.close()
    assert len(log) == 7


@pytest.mark.parametrize("slots", [1, 3])
async def test_executor_uses_all_slots_for_offline_work_alone(slots: int) -> None:
    executor, _ = open_executor(slots)
    offline = Source(executor, [], parallel=3)
    for number in range(4):
        offline.add((Rank.OFFLINE, 1.0, number), str(number))
    executor.wake()
    await until(lambda: offline.at_once == slots)
    offline.go.set()
    executor.close()
    assert len(offline.log) == 4


async def test_executor_runs_serial_sources_in_parallel() -> None:
    executor, _ = open_executor(2)
    log: list[str] = []
    a, b = Source(executor, log), Source(executor, log)
    for source in (a, b):
        for number in range(3):
            source.add((Rank.ONLINE, 1.0, number), f"{number}")
        executor.wake()
    await until(lambda: a.at_once and b.at_once)
    assert (a.at_once, b.at_once) == (1, 1)
    a.go.set()
    b.go.set()
    executor.close()
    assert len(log) == 6
    assert (a.most_at_once, b.most_at_once) == (1, 1)


def test_executor_reports_defect() -> None:
    executor, defects = open_executor(1)
    broken = Broken(executor, [])
    broken.add((Rank.ONLINE, 1.0, 1), "defect")
    executor.wake()
    executor.close()
    assert [str(error) for error in defects] == ["defect"]


async def test_executor_busy_s_grows_during_batch() -> None:
    executor, _ = open_executor(1)
    source = Source(executor, [])
    assert executor.busy_s == 0
    source.add((Rank.ONLINE, 1.0, 1), "held up")
    began_s = time.perf_counter()
    executor.wake()
    await until(lambda: executor.busy_s >= 0.05)
    source.go.set()
    executor.close()
    done_s = executor.busy_s
    assert 0.05 <= done_s <= time.perf_counter() - began_s
    assert executor.busy_s == done_s, "an idle slot adds nothing"


def test_executor_ignores_removed_source() -> None:
    executor, _ = open_executor(1)
    source = Source(executor, [])
    executor.remove_source(source)
    source.add((Rank.ONLINE, 1.0, 1), "gone")
    executor.wake()
    executor.close()
    assert source.log == []


def test_executor_computes_only_brief_batches_on_caller_thread() -> None:
    executor, defects = open_executor(1)
    log: list[str] = []
    brief, long = Source(executor, log), Source(executor, log)
    brief.short = True
    for source in (brief, long):
        source.go.set()
    brief.add((Rank.ONLINE, 1.0, 1), "is_brief")
    long.add((Rank.ONLINE, 2.0, 2), "long")
    executor.wake()
    executor.close()
    assert (log, defects) == (["is_brief", "long"], [])
    assert brief.threads == {threading.get_ident()}
    assert threading.get_ident() not in long.threads


def test_executor_brief_batch_leaves_slot_free() -> None:
    executor, _ = open_executor(1)
    log: list[str] = []
    source = Source(executor, log)
    source.short = True
    source.go.set()
    for number in range(3):
        source.add((Rank.ONLINE, 1.0, number), str(number))
        executor.wake()
    executor.close()
    assert log == ["0", "1", "2"]


async def test_executor_abandons_batch_past_limit_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor, defects = open_executor(2)
    log: list[str] = []
    endless, well = Source(executor, log), Source(executor, log)
    monkeypatch.setattr(Batch, "limit_s", 0.0)
    endless.add((Rank.ONLINE, 1.0, 1), "endless")
    executor.wake()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(executor.watch())
        await until(lambda: endless.abandoned)
        well.go.set()
        well.add((Rank.ONLINE, 1.0, 1), "well")
        executor.wake()
        await until(lambda: log)
        watching.cancel()
    assert (log, endless.abandoned, defects) == (["well"], ["endless"], [])
    endless.go.set()
    executor.close()


async def test_executor_left_s_is_predicted_minus_elapsed_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without subtracting elapsed time, the backlog would contain the whole of an almost finished batch."""
    executor, _defects = open_executor(4)
    seconds = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: seconds)
    wide, narrow, offline = Source(executor, [], width=2), Source(executor, []), Source(executor, [])
    left_s = [executor.left_s()]
    for source in (wide, narrow, offline):
        source.add((Rank.OFFLINE if source is offline else Rank.ONLINE, 1.0, 1), "batch")
        executor.wake()
        seconds += 0.25
        left_s.append(executor.left_s())
    seconds += 7.0
    left_s.append(executor.left_s())
    for source in (wide, narrow, offline):
        source.go.set()
    executor.close()
    nothing = [0.0] * 4
    both = [[0.5, 0.5, 0.75, 0.0], [0.25, 0.25, 0.5, 0.0]]
    late = [6.75, 6.75, 6.5, 0.0]
    assert left_s == [nothing, [0.75, 0.75, 0.0, 0.0], *both, late], "online work never waits for offline work"


@pytest.mark.parametrize(("elapsed_s", "done"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (1.5, 0.5)])
async def test_executor_done_inputs_follow_prediction(
    monkeypatch: pytest.MonkeyPatch, elapsed_s: float, done: float
) -> None:
    """An overdue batch is assumed to take its excess once more, so less of it counts as done."""
    executor, _ = open_executor(2)
    seconds = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: seconds)
    online, offline = Source(executor, []), Source(executor, [])
    for source, rank in ((online, Rank.ONLINE), (offline, Rank.OFFLINE)):
        source.add((rank, 1.0, 1), "batch")
        executor.wake()
    seconds += elapsed_s
    assert executor.done_inputs(online) == pytest.approx(done * Batch.inputs)
    assert executor.done_inputs(offline) == 0
    for source in (online, offline):
        source.go.set()
    executor.close()


def test_executor_releases_removed_source() -> None:
    """A slot's reference to the source of its last batch would keep an unloaded model in memory."""
    executor, _defects = open_executor(2)
    source = Source(executor, [])
    source.go.set()
    source.add((Rank.ONLINE, 1.0, 1), "batch")
    executor.wake()
    executor.close()
    executor.remove_source(source)
    source.batches.clear()
    gone = weakref.ref(source)
    del source
    gc.collect()
    assert gone() is None


def test_executor_marks_consecutive_batches_of_instance() -> None:
    executor, _defects = open_executor(1)
    log: list[str] = []
    one, other = Source(executor, log), Source(executor, log)
    for source in (one, other):
        source.go.set()
    for number, source in enumerate((one, one, other, one, one)):
        source.add((Rank.ONLINE, 1.0, number), "batch")
    executor.wake()
    executor.close()
    assert [batch.consecutive for batch in one.batches] == [False, True, False, True]
    assert [batch.consecutive for batch in other.batches] == [False]


def test_executor_orders_work_without_deadline_by_arrival() -> None:
    """An instance with many earlier batches must not wait for a new one."""
    executor, defects = open_executor(1)
    log: list[str] = []
    old, new = QueueSource(executor, "old", log), QueueSource(executor, "new", log)
    for _ in range(100):
        old.queue.add(Work())
        old.queue.next_batch(0.0, 1.0)
    for _ in range(20):
        old.queue.add(Work())
        new.queue.add(Work())
    executor.wake()
    executor.close()
    assert log == ["old", "new"] * 20
    assert defects == []


@dataclass(eq=False)
class Work:
    inputs: int = 1
    shape: Hashable = ()
    extra_s: float = 0.0
    deadline_s: float = NO_DEADLINE
    offline: bool = False
    allow_late: bool = False


class QueueSource:
    """Source and batch in one: an instance's queue with batches of one input."""

    inputs = 1
    predicted_s = 1e-3
    limit_s = 60.0
    is_brief = False
    shared = False
    consecutive = False
    is_concurrent = True
    parallel = 1
    width = 1

    def __init__(self, executor: BatchExecutor, name: str, log: list[str]) -> None:
        self.queue: BatchQueue[Work] = BatchQueue(LatencyModel([BatchLatency(1, 1e-3, 1e-3)], 1), executor.arrivals)
        self.name = name
        self.log = log
        executor.add_source(self)

    def urgency(self) -> Urgency | None:
        return self.queue.urgency()

    def next_batch(self, slots: int) -> "QueueSource":
        self.queue.next_batch(0.0, 1.0)
        return self

    def compute(self, slot: int) -> None:
        self.log.append(self.name)

    def set_aside(self) -> None:
        pass

    def abandon(self) -> None:
        raise AssertionError


def test_executor_pins_slots_and_their_threads_to_given_cores() -> None:
    core, ours, seen = max(os.sched_getaffinity(0)), os.sched_getaffinity(0), list[set[int]]()

    class LookingSource(Source):
        def compute(self, name: str) -> None:
            looking = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
            looking.start()
            looking.join()

    defects: list[BaseException] = []
    executor = BatchExecutor(1, defects.append, cpus=(core,))
    source = LookingSource(executor, [])
    source.add((Rank.ONLINE, 1.0, 1), "look")
    executor.wake()
    executor.close()
    assert (seen, defects, os.sched_getaffinity(0)) == ([{core}], [], ours)


@pytest.mark.parametrize("concurrent", [True, False])
async def test_executor_sets_stuck_batch_aside(monkeypatch: pytest.MonkeyPatch, concurrent: bool) -> None:
    """Other batches use a spare slot; those of the same source only if its session is thread-safe."""
    executor, defects = open_executor(1)
    log: list[str] = []
    stuck, well = Source(executor, log), Source(executor, log)
    stuck.is_concurrent = concurrent
    monkeypatch.setattr(Batch, "limit_s", 3.0)
    stuck.add((Rank.ONLINE, 1.0, 1), "stuck")
    executor.wake()
    stuck.add((Rank.ONLINE, 2.0, 2), "behind")
    for number in range(3):
        well.add((Rank.ONLINE, 3.0, number), str(number))
    well.go.set()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(executor.watch())
        await until(lambda: bool(stuck.at_once == 2 if concurrent else len(log) == 3))
        stuck.go.set()
        await until(lambda: len(log) == 5)
        watching.cancel()
    await asyncio.to_thread(executor.close)
    assert (sorted(log), defects) == (["0", "1", "2", "behind", "stuck"], [])
    if not concurrent:
        assert log[:3] == ["0", "1", "2"]


async def test_executor_is_exhausted_when_all_slots_are_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    spare = 2
    executor = BatchExecutor(1, lambda _: None, spare=spare)
    log: list[str] = []
    stuck = Source(executor, log)
    monkeypatch.setattr(Batch, "limit_s", 3.0)
    for number in range(1 + spare):
        stuck.add((Rank.ONLINE, 1.0, number), str(number))
    executor.wake()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(executor.watch())
        assert not executor.is_exhausted
        await until(lambda: executor.is_exhausted)
        assert stuck.at_once == 1 + spare
        stuck.go.set()
        await until(lambda: len(log) == 1 + spare)
        assert not executor.is_exhausted
        watching.cancel()
    await asyncio.to_thread(executor.close)
