"""The slots of a device: threads that compute, and the choice of what computes next in a free one.

    event loop:  queue.add(work); executor.wake()
    slot thread: take the most urgent batch of all instances -> compute -> take the next -> ... -> nothing left, end

Rules.
* Online work of any instance goes before offline work of any; then the earliest deadline. An instance computes one
  batch at a time. Nothing is preempted: online work waits for at most the batches that are under way.
* A thread that ends a batch takes the next one itself. Going through the event loop instead would leave the device idle
  for as long as the loop is busy decoding, which under load is most of the time.
* A batch that is known to take less time than a hop to a thread and back (`is_brief`) is computed where it arrives, on
  the event loop: for the smallest models the two hops would be most of the way of a query.
* A batch under way is watched from the event loop, and abandoned past its limit. Its slot is lost, for nothing can
  interrupt what computes there. Only time that was watched counts: a process that was stopped blames no query.
* The lock guards all batch queues of the executor. It is held for microseconds: to add work, or to choose a batch.

Sleeping threads are woken by handing the thread pool a task, so an idle slot costs one hop to a thread.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Final, Protocol

from workers.batch_queue import Urgency

_WATCH_S: Final = 0.5


class Batch(Protocol):
    """Work that is computed at once in a slot."""

    @property
    def is_brief(self) -> bool:
        """Whether it takes less time than to hand it to a thread."""
        ...

    @property
    def limit_s(self) -> float:
        """Seconds that it may take."""
        ...

    def compute(self, slot: int) -> None:
        """Compute it. Raises only for a defect of ours."""
        ...

    def abandon(self) -> None:
        """Take note that it has taken too long; called on the event loop."""
        ...


class BatchSource(Protocol):
    """What the executor takes batches from: an instance."""

    def urgency(self) -> Urgency | None:
        """Urgency of its most urgent work, or None. Called with the lock held, as are the others."""
        ...

    def next_batch(self) -> Batch | None:
        """Take the next batch out of the queue. It must not raise."""
        ...


class _BatchUnderWay:
    """Batch that a slot computes now."""

    __slots__ = ("batch", "began_s", "source", "watched_s")

    def __init__(self, source: BatchSource, batch: Batch) -> None:
        self.source = source
        self.batch = batch
        self.began_s = time.perf_counter()
        self.watched_s = 0.0
        """Seconds for which it was seen to be under way."""


class BatchExecutor:
    """Computes batches in the slots of one device. Used by one event loop and its own threads."""

    def __init__(self, slots: int, on_defect: Callable[[BaseException], None]) -> None:
        """`on_defect` is called, in a thread, when a slot dies of a defect of ours."""
        self.lock = threading.Lock()
        self.arrivals: Iterator[int] = count(1)
        """Numbers for the work of all sources in the order in which it comes: who came first is first, whose it be."""
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._free = list(range(slots))
        self._sources: list[BatchSource] = []
        self._busy: set[BatchSource] = set()
        self._busy_s = 0.0
        self._under_way: dict[int, _BatchUnderWay] = {}
        """Batches by slot."""
        self._on_defect = on_defect

    def add_source(self, source: BatchSource) -> None:
        """Take batches from `source` from now on."""
        with self.lock:
            self._sources.append(source)

    def remove_source(self, source: BatchSource) -> None:
        """Take no more batches from `source`; one under way goes on."""
        with self.lock:
            self._sources.remove(source)

    def wake(self) -> None:
        """Compute new work if a slot is free; call on the event loop, without the lock."""
        with self.lock:
            slot = self._free.pop() if self._free else None
            if slot is None:
                return
            batch = self._take(slot)
        if batch is not None and batch.is_brief:
            batch.compute(slot)
            batch = self._take_next(slot)
        if batch is not None:
            self._pool.submit(self._work, slot, batch).add_done_callback(self._report)

    async def watch(self) -> None:
        """Abandon what takes longer than its limit, until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for batch in self._overdue(_WATCH_S):
                batch.abandon()

    @property
    def busy_s(self) -> float:
        """Seconds that slots have computed so far, batches under way included."""
        with self.lock:
            now_s = time.perf_counter()
            return self._busy_s + sum(now_s - under_way.began_s for under_way in self._under_way.values())

    def close(self) -> None:
        """Wait for the batches under way, and end the threads; blocks."""
        self._pool.shutdown()

    def _work(self, slot: int, first: Batch) -> None:
        batch: Batch | None = first
        while batch is not None:
            batch.compute(slot)
            batch = self._take_next(slot)

    def _take_next(self, slot: int) -> Batch | None:
        """End the slot's batch and begin another; with none left the slot is free."""
        with self.lock:
            ended = self._under_way.pop(slot)
            self._busy.discard(ended.source)
            self._busy_s += time.perf_counter() - ended.began_s
            return self._take(slot)

    def _take(self, slot: int) -> Batch | None:
        while (source := self._next()) is not None:
            batch = source.next_batch()
            if batch is not None:
                self._busy.add(source)
                self._under_way[slot] = _BatchUnderWay(source, batch)
                return batch
        self._free.append(slot)
        return None

    def _overdue(self, watched_s: float) -> list[Batch]:
        """Batches that exceed their limits now, after having been watched for so much longer."""
        found: list[Batch] = []
        with self.lock:
            for under_way in self._under_way.values():
                before_s = under_way.watched_s
                under_way.watched_s += watched_s
                if before_s <= under_way.batch.limit_s < under_way.watched_s:
                    found.append(under_way.batch)
        return found

    def _next(self) -> BatchSource | None:
        found: BatchSource | None = None
        highest: Urgency | None = None
        for source in self._sources:
            if source in self._busy:
                continue
            urgency = source.urgency()
            if urgency is not None and (highest is None or urgency < highest):
                found, highest = source, urgency
        return found

    def _report(self, ended: "Future[None]") -> None:
        error = ended.exception()
        if error is not None:  # not a model's error: computing turns those into results
            self._on_defect(error)
