"""Executor of batches: threads that compute in the slots of a device what its `schedule` chooses.

    event loop:  queue.add(work); executor.wake_soon()
    slot thread: take the most urgent batch of all instances -> compute -> take the next -> ... -> nothing left, end

Rules.
* A thread that ends a batch takes the next one itself: the event loop may be busy with decoding.
* A batch that takes less time than a hop to a thread and back (`is_brief`) is computed on the event loop.
* The event loop watches each batch. Past a tenth of its limit a spare slot replaces its slot until it ends; past its
  limit it is abandoned, because nothing can interrupt it. Time in which the process was stopped does not count.
* The lock guards the schedule and all batch queues of its sources. It is held for microseconds: to add work, or to
  choose a batch.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, TypeAlias

from process.cpus import CpuMeter, pin_thread
from schemas.offline_share import offline_share
from workers.slots.schedule import BatchSource, ScheduledBatch, SlotSchedule

SPARE_SLOTS: Final = 16  # most batches that are set aside at once
_WATCH_S: Final = 0.5


class Batch(ScheduledBatch, Protocol):
    """Work that a slot's thread computes."""

    is_brief: bool
    """True if it takes less time than a hop to a thread."""

    def compute(self, slot: int) -> None:
        """Compute it. Raises only for a defect of ours."""
        ...

    def set_aside(self) -> None:
        """Handle that a spare slot replaces its slot; called on the event loop with the lock held."""
        ...

    def abandon(self) -> None:
        """Handle that it exceeds its limit; called on the event loop."""
        ...


_Started: TypeAlias = tuple[int, Batch]
"""A slot and the batch that it must compute."""


class BatchExecutor:
    """Executor of batches in the slots of one device. Used by one event loop and its own threads.

    It calls the methods of its sources with the lock held.
    """

    def __init__(
        self,
        slots: int,
        on_defect: Callable[[BaseException], None],
        cpus: Collection[int] = (),
        spare: int = SPARE_SLOTS,
    ) -> None:
        """`on_defect` is called, in a thread, when a slot dies of a defect of ours; slots compute on these `cpus`."""
        self.lock = threading.Lock()
        self.cpu = CpuMeter()
        self._schedule: SlotSchedule[Batch] = SlotSchedule(slots, spare)
        self.arrivals, self.turn = self._schedule.arrivals, self._schedule.turn
        """Shared by the queues of all sources."""
        self._pool = ThreadPoolExecutor(slots + spare, "slot", pin_thread, (cpus,))
        self._closing = False
        self._wakes = False
        """True if a wake-up is scheduled."""
        self._on_defect = on_defect

    def add_source(self, source: BatchSource[Batch]) -> None:
        """Take batches from `source` from now on."""
        with self.lock:
            self._schedule.add_source(source)

    def remove_source(self, source: BatchSource[Batch]) -> None:
        """Take no more batches from `source`; a batch under way continues."""
        with self.lock:
            self._schedule.remove_source(source)

    def wake(self) -> None:
        """Compute new work in the free slots; call on the event loop, without the lock."""
        brief = self._begin(here=True)
        if brief is not None:
            slot, batch = brief
            batch.compute(slot)
            with self.lock:
                self._schedule.end(slot, time.monotonic())
            self._begin()

    def wake_soon(self) -> None:
        """Schedule a wake-up at the event loop's next turn, after all work that arrives now is queued."""
        if not self._wakes:
            self._wakes = True
            asyncio.get_running_loop().call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._wakes = False
        try:
            self.wake()
        except Exception as error:  # noqa: BLE001 - treated as the error of a slot's thread
            self._on_defect(error)

    async def watch(self) -> None:
        """Set aside or abandon batches that take too long, until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            with self.lock:
                aside, overdue = self._schedule.watch(_WATCH_S)
                for batch in aside:
                    batch.set_aside()
            for batch in overdue:
                batch.abandon()
            self._begin()  # a spare slot may have become free

    @property
    def is_exhausted(self) -> bool:
        """True if batches that do not end occupy all slots, including the spare ones."""
        with self.lock:
            return self._schedule.is_exhausted

    @property
    def busy_s(self) -> float:
        """Seconds that slots have computed so far, including batches under way."""
        with self.lock:
            return self._schedule.busy_s(time.monotonic())

    def done_inputs(self, source: BatchSource[Batch]) -> float:
        """Return the inputs of online batches under way that should be computed by now; pieces do not count."""
        with self.lock:
            return self._schedule.done_inputs(source, time.monotonic())

    def left_s(self) -> list[float]:
        """Return the predicted seconds left of each slot's online work; 0 for a slot without any."""
        with self.lock:
            return self._schedule.left_s(time.monotonic())

    def expects_online(self, now_s: float) -> bool:
        """Return true if online work of any source is expected now; `now_s` is monotonic time."""
        return self._schedule.expects_online(now_s)

    def offline_share(self) -> float:
        """Return the share of its usual pace that offline work has at present."""
        return offline_share(self.cpu.busy())

    def close(self) -> None:
        """Wait for the batches under way and end the threads; blocks."""
        with self.lock:
            self._closing = True
        self._pool.shutdown()

    def _begin(self, *, here: bool = False) -> _Started | None:
        """Start waiting batches in the free slots; with `here`, a brief batch is returned for the caller to compute."""
        with self.lock:
            while not self._closing and (started := self._schedule.begin(time.monotonic())) is not None:
                if here and started[1].is_brief:
                    return started
                self._pool.submit(self._work, started).add_done_callback(self._report)
        return None

    def _work(self, started: _Started | None) -> None:
        while started is not None:
            slot, batch = started
            batch.compute(slot)
            with self.lock:
                now_s = time.monotonic()
                self._schedule.end(slot, now_s)
                started = self._schedule.begin(now_s)
            if self._schedule.has_free:  # waiting work may need several slots
                self._begin()

    def _report(self, ended: "Future[None]") -> None:
        error = ended.exception()
        if error is not None:  # no model error: computation turns those into results
            self._on_defect(error)
