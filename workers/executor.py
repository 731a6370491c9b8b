"""The slots of a device: threads that compute, and the choice of what computes next in a free one.

    event loop:  queue.add(work); executor.wake()
    slot thread: take the most urgent batch of all instances -> compute -> take the next -> ... -> nothing left, end

Rules.
* Online work of any instance goes before offline work of any; then the earliest deadline. An instance computes one
  batch at a time. Nothing is preempted: online work waits for at most the batches that are under way.
* A thread that ends a batch takes the next one itself. Going through the event loop instead would leave the device idle
  for as long as the loop is busy decoding, which under load is most of the time.
* A batch that is predicted to take less time than a hop to a thread and back (`is_brief`) is computed where it arrives,
  on the event loop: for the smallest models the two hops would be most of the way of a query.
* The lock guards all batch queues of the executor. It is held for microseconds: to add work, or to choose a batch.

Sleeping threads are woken by handing the thread pool a task, so an idle slot costs one hop to a thread.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from workers.batch_queue import Urgency


class BatchSource(Protocol):
    """What the executor takes batches from: an instance."""

    def urgency(self) -> Urgency | None:
        """Urgency of its most urgent work, or None. Called with the lock held, as are the others."""
        ...

    def is_brief(self) -> bool:
        """Whether its next batch takes less time than to hand it to a thread."""
        ...

    def next_batch(self) -> Callable[[int], None] | None:
        """Take the next batch out of the queue; returns what computes it in the slot given. It must not raise."""
        ...


class BatchExecutor:
    """Computes batches in the slots of one device. Used by one event loop and its own threads."""

    def __init__(self, slots: int, on_defect: Callable[[BaseException], None]) -> None:
        """`on_defect` is called, in a thread, when a slot dies of a defect of ours."""
        self.lock = threading.Lock()
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._free = list(range(slots))
        self._sources: list[BatchSource] = []
        self._busy: set[BatchSource] = set()
        self._busy_s = 0.0
        self._began_s: dict[int, float] = {}
        """Start of the batch under way, by slot."""
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
            source = self._next() if self._free else None
            if source is None:
                return
            slot = self._free.pop()
            done, compute = self._take(slot) if source.is_brief() else (None, None)
        if compute is not None and done is not None:
            compute(slot)
            with self.lock:
                self._end(slot, done)
                if self._next() is None:
                    self._free.append(slot)
                    return
        self._pool.submit(self._work, slot).add_done_callback(self._report)

    @property
    def busy_s(self) -> float:
        """Seconds that slots have computed so far, batches under way included."""
        with self.lock:
            now_s = time.perf_counter()
            return self._busy_s + sum(now_s - began_s for began_s in self._began_s.values())

    def close(self) -> None:
        """Wait for the batches under way, and end the threads; blocks."""
        self._pool.shutdown()

    def _work(self, slot: int) -> None:
        done: BatchSource | None = None
        while True:
            with self.lock:
                if done is not None:
                    self._end(slot, done)
                done, compute = self._take(slot)
                if compute is None:
                    self._free.append(slot)
                    return
            compute(slot)

    def _take(self, slot: int) -> tuple[BatchSource | None, Callable[[int], None] | None]:
        while (source := self._next()) is not None:
            compute = source.next_batch()
            if compute is not None:
                self._busy.add(source)
                self._began_s[slot] = time.perf_counter()
                return source, compute
        return None, None

    def _end(self, slot: int, source: BatchSource) -> None:
        self._busy.discard(source)
        self._busy_s += time.perf_counter() - self._began_s.pop(slot)

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
