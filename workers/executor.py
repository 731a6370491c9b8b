"""The device's slots: threads that compute, and who computes next in a free one.

    event loop:  instance.window.add(work); device.wake()
    slot thread: take the most urgent batch of all instances -> compute -> take the next -> ... -> nothing left, end

Rules.
* Online work of any instance goes before offline work of any; then the earliest deadline. An instance computes one
  batch at a time. Nothing is preempted: online work waits for at most the batches that are under way.
* A thread that ends a batch takes the next one itself. Going through the event loop instead would leave the device idle
  for as long as the loop is busy decoding, which under load is most of the time.
* A batch that is predicted to take less time than a hop to a thread and back (`brief`) is computed where it arrives, on
  the event loop: for the smallest models the two hops would be most of the way of a query.
* The lock guards all windows of the device. It is held for microseconds: to add work, or to plan a batch.

Sleeping threads are woken by handing the executor a task, so an idle slot costs one hop to a thread.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from workers.batch_queue import Urgency


class BatchSource(Protocol):
    """What shares the device: an instance."""

    def urgency(self) -> Urgency | None:
        """How urgent its most urgent work is, or None. Called with the device's lock held, as is `plan`."""
        ...

    def brief(self) -> bool:
        """Whether its next batch takes less time than to hand it to a thread. Called with the lock held."""
        ...

    def plan(self) -> Callable[[int], None] | None:
        """Take the next batch; returns what computes it, given the slot's number. It must not raise."""
        ...


class BatchExecutor:
    """Slots of one device. Used by one event loop and its own threads."""

    def __init__(self, slots: int, on_defect: Callable[[BaseException], None]) -> None:
        """`on_defect` is called, in a thread, when a slot dies of a defect of ours."""
        self.lock = threading.Lock()
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._free = list(range(slots))
        self._tenants: list[BatchSource] = []
        self._busy: set[BatchSource] = set()
        self._busy_s = 0.0
        self._began_s: dict[int, float] = {}
        """By slot, when the batch under way began."""
        self._on_defect = on_defect

    def admit(self, tenant: BatchSource) -> None:
        """Let `tenant` compute here from now on."""
        with self.lock:
            self._tenants.append(tenant)

    def dismiss(self, tenant: BatchSource) -> None:
        """Take no more work from `tenant`; a batch under way goes on."""
        with self.lock:
            self._tenants.remove(tenant)

    def wake(self) -> None:
        """There is new work; call on the event loop, without the lock."""
        with self.lock:
            tenant = self._next() if self._free else None
            if tenant is None:
                return
            slot = self._free.pop()
            done, compute = self._take(slot) if tenant.brief() else (None, None)
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
        """Slot seconds computed so far, batches under way included."""
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
        while (tenant := self._next()) is not None:
            compute = tenant.plan()
            if compute is not None:
                self._busy.add(tenant)
                self._began_s[slot] = time.perf_counter()
                return tenant, compute
        return None, None

    def _end(self, slot: int, tenant: BatchSource) -> None:
        self._busy.discard(tenant)
        self._busy_s += time.perf_counter() - self._began_s.pop(slot)

    def _next(self) -> BatchSource | None:
        best: BatchSource | None = None
        minimum: Urgency | None = None
        for tenant in self._tenants:
            if tenant in self._busy:
                continue
            urgency = tenant.urgency()
            if urgency is not None and (minimum is None or urgency < minimum):
                best, minimum = tenant, urgency
        return best

    def _report(self, ended: "Future[None]") -> None:
        error = ended.exception()
        if error is not None:  # not a model's error: computing turns those into results
            self._on_defect(error)
