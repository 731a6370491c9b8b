import asyncio
import os
import threading
import time

import pytest

from tests.waiting import PATIENCE_S, until
from workers.slots.batch_queue import Rank, Urgency
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
        executor.add_source(self)

    def add(self, urgency: Urgency, name: str) -> None:
        with self.executor.lock:
            self.work.append((urgency, name))
            self.work.sort()

    def urgency(self) -> Urgency | None:
        return self.work[0][0] if self.work else None

    def next_batch(self, slots: int, now_s: float) -> Batch:
        _urgency, name = self.work.pop(0)
        return Batch(self, name)

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


async def test_executor_computes_in_all_slots_at_once() -> None:
    executor, defects = open_executor(3)
    source = Source(executor, [], parallel=3)
    for number in range(7):
        source.add((Rank.ONLINE, 1.0, number), str(number))
    executor.wake()
    await until(lambda: source.at_once == 3)
    source.go.set()
    executor.close()
    assert (sorted(source.log), source.most_at_once, defects) == ([str(n) for n in range(7)], 3, [])


async def test_executor_fills_all_slots_that_wide_batch_frees() -> None:
    executor, defects = open_executor(3)
    wide, narrow = Source(executor, [], width=2), Source(executor, [], parallel=3)
    wide.add((Rank.ONLINE, 1.0, 1), "wide")
    executor.wake()
    await until(lambda: wide.at_once == 1)
    for number in range(3):
        narrow.add((Rank.ONLINE, 2.0, number), str(number))
    executor.wake()
    await until(lambda: narrow.at_once == 1)
    wide.go.set()
    await until(lambda: narrow.at_once == 3)
    narrow.go.set()
    executor.close()
    assert defects == []


def test_executor_reports_defect() -> None:
    executor, defects = open_executor(1)
    broken = Broken(executor, [])
    broken.add((Rank.ONLINE, 1.0, 1), "defect")
    executor.wake()
    executor.close()
    assert [str(error) for error in defects] == ["defect"]


async def test_executor_measures_batch_under_way() -> None:
    executor, _ = open_executor(1)
    source = Source(executor, [])
    assert (executor.busy_s, executor.left_s(), executor.done_inputs(source)) == (0.0, [0.0], 0.0)
    source.add((Rank.ONLINE, 1.0, 1), "held up")
    began_s = time.monotonic()
    executor.wake()
    assert executor.expects_online(began_s)
    assert executor.left_s()[0] > 0
    await until(lambda: executor.busy_s >= 0.05)
    assert executor.done_inputs(source) > 0
    source.go.set()
    executor.close()
    done_s = executor.busy_s
    assert 0.05 <= done_s <= time.monotonic() - began_s
    assert (executor.busy_s, executor.left_s()) == (done_s, [0.0]), "an idle slot adds nothing"


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
