"""Slots of a device: threads that compute, and the choice of the next batch for a free slot.

    event loop:  queue.add(work); executor.wake_soon()
    slot thread: take the most urgent batch of all instances -> compute -> take the next -> ... -> nothing left, end

Rules.
* Online work of any instance goes before offline work of any; then the earliest deadline goes first. An instance
  computes as many batches at once as slots are free and its session allows. Nothing is preempted: online work waits for
  at most the batch that ends first.
* Pieces of large queries go after other online work, except for their share of the time (`large_queries`).
* While online work is expected (`broker.arrivals`), one of several slots stays free of offline work and of
  pieces.
* A batch may take several slots, for as many cores. While it is the most urgent, no other begins before enough slots
  are free or, for offline work, before it may have that many. Otherwise narrow batches would always go first.
* A thread that ends a batch takes the next one itself: the event loop may be busy with decoding.
* A batch that takes less time than a hop to a thread and back (`is_brief`) is computed on the event loop.
* The event loop watches each batch. Past a tenth of its limit a spare slot replaces its slot until it ends; past its
  limit it is abandoned, because nothing can interrupt it. Time in which the process was stopped does not count.
* The lock guards all batch queues of the executor. It is held for microseconds: to add work, or to choose a batch.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol, TypeAlias

from broker.arrivals import OnlineArrivals
from process.cpus import CpuMeter, pin_thread
from schemas.offline_share import offline_share
from workers.slots.batch_queue import Rank, Urgency
from workers.slots.large_queries import PieceTurn

SPARE_SLOTS: Final = 16  # most batches that are set aside at once
_WATCH_S: Final = 0.5
_ASIDE_SHARE: Final = 0.1  # share of its limit after which a batch is set aside


class Batch(Protocol):
    """Work that one slot computes at once."""

    inputs: int
    predicted_s: float
    limit_s: float
    """Seconds that it may take."""
    is_brief: bool
    """True if it takes less time than a hop to a thread."""
    shared: bool
    """True if another slot computed at the same time; set by the executor."""
    consecutive: bool
    """True if its slot computed nothing of another source since this source's previous batch; set by the executor."""

    def compute(self, slot: int) -> None:
        """Compute it. Raises only for a defect of ours."""
        ...

    def set_aside(self) -> None:
        """Handle that a spare slot replaces its slot; called on the event loop with the lock held."""
        ...

    def abandon(self) -> None:
        """Handle that it exceeds its limit; called on the event loop."""
        ...


class BatchSource(Protocol):
    """Source of batches: an instance. The executor calls its methods with the lock held."""

    parallel: int
    """Number of its batches that may compute at once."""
    is_concurrent: bool
    """True if another of its batches may begin while one is set aside."""
    width: int
    """Number of slots that each of its batches takes, at most all."""

    def urgency(self) -> Urgency | None:
        """Return the urgency of its most urgent work, or None if none may begin."""
        ...

    def next_batch(self, slots: int) -> Batch | None:
        """Take the next batch out of the queue; `slots` batches may begin now. It must not raise."""
        ...


@dataclass(slots=True, eq=False)
class _BatchUnderWay:
    """Batch that a slot computes now."""

    source: BatchSource
    batch: Batch
    others: list[int]
    """Slots that it takes besides the one whose thread computes it."""
    rank: int
    aside: bool = False
    """True if a spare slot has replaced its slot."""
    began_s: float = field(default_factory=lambda: time.perf_counter())
    watched_s: float = 0.0
    """Seconds for which it was seen under way."""

    @property
    def width(self) -> int:
        """Number of slots that it takes."""
        return 1 + len(self.others)

    def slot_s(self, now_s: float) -> float:
        """Return the slot seconds that it has taken."""
        return (now_s - self.began_s) * self.width

    def left_s(self, now_s: float) -> float:
        """Return the predicted seconds left. An overdue batch is assumed to take its excess once more."""
        return abs(self.batch.predicted_s - (now_s - self.began_s))

    def done(self, now_s: float) -> float:
        """Return the predicted share that is done, 0..1; 1 for a batch that is set aside: nobody waits for it."""
        return 1.0 if self.aside else max(1.0 - self.left_s(now_s) / max(self.batch.predicted_s, 1e-6), 0.0)

    @property
    def is_stuck(self) -> bool:
        """True if a spare slot should replace its slot."""
        return self.watched_s > _ASIDE_SHARE * self.batch.limit_s


_Started: TypeAlias = tuple[int, Batch]
"""A slot and the batch that it must compute."""


class BatchExecutor:
    """Executor of batches in the slots of one device. Used by one event loop and its own threads."""

    def __init__(
        self,
        slots: int,
        on_defect: Callable[[BaseException], None],
        cpus: Collection[int] = (),
        spare: int = SPARE_SLOTS,
    ) -> None:
        """`on_defect` is called, in a thread, when a slot dies of a defect of ours; slots compute on these `cpus`."""
        self.lock = threading.Lock()
        self.arrivals: Iterator[int] = count(1)
        """Arrival numbers, shared by the queues of all sources, so that work of equal urgency is computed in order."""
        self.turn = PieceTurn()
        self.slots = slots
        self._pool = ThreadPoolExecutor(slots + spare, "slot", pin_thread, (cpus,))
        self._free = list(range(slots))
        self._spare = list(range(slots, slots + spare))
        self._sources: list[BatchSource] = []
        self._computing: Counter[BatchSource] = Counter()
        """Number of batches under way, by source."""
        self._yielding = 0  # slots taken by pieces and offline work
        self._online_arrivals = OnlineArrivals()
        """Times of the online batches of all sources."""
        self.cpu = CpuMeter()
        self._closing = False
        self._wakes = False
        """True if a wake-up is scheduled."""
        self._busy_s = 0.0
        self._under_way: dict[int, _BatchUnderWay] = {}
        """Batches, by slot."""
        self._last: list[BatchSource | None] = [None] * (slots + spare)
        """Source of the last batch of each slot."""
        self._on_defect = on_defect

    def add_source(self, source: BatchSource) -> None:
        """Take batches from `source` from now on."""
        with self.lock:
            self._sources.append(source)

    def remove_source(self, source: BatchSource) -> None:
        """Take no more batches from `source`; a batch under way continues."""
        with self.lock:
            self._sources.remove(source)
            self._last = [None if last is source else last for last in self._last]

    def wake(self) -> None:
        """Compute new work in the free slots; call on the event loop, without the lock."""
        brief = self._begin(here=True)
        if brief is not None:
            slot, batch = brief
            batch.compute(slot)
            with self.lock:
                if self._note_end(slot):
                    self._free.append(slot)
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
            for batch in self._overdue(_WATCH_S):
                batch.abandon()
            self._begin()  # a spare slot may have become free

    @property
    def is_exhausted(self) -> bool:
        """True if batches that do not end occupy all slots, including the spare ones."""
        with self.lock:
            return not self._spare and not self._free and all(each.is_stuck for each in self._under_way.values())

    @property
    def busy_s(self) -> float:
        """Seconds that slots have computed so far, including batches under way."""
        with self.lock:
            now_s = time.perf_counter()
            return self._busy_s + sum(under_way.slot_s(now_s) for under_way in self._under_way.values())

    def done_inputs(self, source: BatchSource) -> float:
        """Return the inputs of online batches under way that should be computed by now; pieces do not count."""
        with self.lock:
            now_s = time.perf_counter()
            batches = [e for e in self._under_way.values() if e.source is source and e.rank == Rank.ONLINE]
            return sum(each.batch.inputs * each.done(now_s) for each in batches)

    def left_s(self) -> list[float]:
        """Return the predicted seconds left of each slot's online work; 0 for a slot without any."""
        with self.lock:
            now_s = time.perf_counter()
            online = [e for e in self._under_way.values() if e.rank != Rank.OFFLINE and not e.aside]
            left_s = [each.left_s(now_s) for each in online for _ in range(each.width)]
        return left_s + [0.0] * (self.slots - len(left_s))

    def expects_online(self, now_s: float) -> bool:
        """Return true if online work of any source is expected now; `now_s` is monotonic time."""
        return self._online_arrivals.expects_more(now_s)

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
            while self._free and not self._closing:
                slot = self._free.pop()
                batch = self._take(slot)
                if batch is None:
                    break
                if here and batch.is_brief:
                    return slot, batch
                self._pool.submit(self._work, slot, batch).add_done_callback(self._report)
        return None

    def _work(self, slot: int, first: Batch) -> None:
        batch: Batch | None = first
        while batch is not None:
            batch.compute(slot)
            with self.lock:
                batch = self._take(slot) if self._note_end(slot) else None
            if self._free:  # waiting work may need several slots
                self._begin()

    def _note_end(self, slot: int) -> bool:
        """Account for a batch that has ended. Returns true if its slot may take the next one."""
        ended = self._under_way.pop(slot)
        self._busy_s += ended.slot_s(time.perf_counter())
        if not ended.aside:
            self._free_slots(ended)
            return True
        if not ended.source.is_concurrent:
            self._count_out(ended.source)
        self._spare.append(slot)
        return False

    def _set_aside(self, stuck: _BatchUnderWay) -> None:
        stuck.aside = True
        stuck.batch.set_aside()
        self._free_slots(stuck)
        if not stuck.source.is_concurrent:
            self._computing[stuck.source] += 1
        self._free.append(self._spare.pop())

    def _free_slots(self, ended: _BatchUnderWay) -> None:
        self._count_out(ended.source)
        if ended.rank != Rank.ONLINE:
            self._yielding -= ended.width
        self._free += ended.others
        ended.others = []

    def _count_out(self, source: BatchSource) -> None:
        self._computing[source] -= 1
        if not self._computing[source]:
            del self._computing[source]

    def _take(self, slot: int) -> Batch | None:
        """Take the most urgent batch for this slot; without one, free the slot."""
        now_s = time.monotonic()
        while (found := self._next(now_s)) is not None:
            source, rank, slots = found
            batch = source.next_batch(slots)
            if batch is None:
                continue
            self._computing[source] += 1
            others = [self._free.pop() for _ in range(source.width - 1)]
            self._under_way[slot] = under_way = _BatchUnderWay(source, batch, others, rank)
            batch.consecutive = self._last[slot] is source
            for taken in (slot, *others):
                self._last[taken] = source
            if len(self._under_way) > 1:
                for each in self._under_way.values():
                    each.batch.shared = True
            if self.turn.waiting:
                self._count_turn(under_way)
            if rank == Rank.ONLINE:
                self._online_arrivals.came(now_s)
            else:
                self._yielding += under_way.width
            return batch
        self._free.append(slot)
        return None

    def _count_turn(self, begun: _BatchUnderWay) -> None:
        if begun.rank == Rank.TURN:
            self.turn.taken(begun.batch.predicted_s * begun.width)
        elif begun.rank == Rank.ONLINE and not self._yielding:
            self.turn.passed_over(begun.batch.predicted_s * begun.width)

    def _overdue(self, watched_s: float) -> list[Batch]:
        """Return the batches that exceed their limits after `watched_s` more seconds; set stuck ones aside."""
        found: list[Batch] = []
        with self.lock:
            for under_way in self._under_way.values():
                before_s = under_way.watched_s
                under_way.watched_s += watched_s
                if before_s <= under_way.batch.limit_s < under_way.watched_s:
                    found.append(under_way.batch)
                if under_way.is_stuck and not under_way.aside and self._spare:
                    self._set_aside(under_way)
        return found

    def _next(self, now_s: float) -> tuple[BatchSource, int, int] | None:
        """Find the source of the next batch, its rank, and the number of its batches that may begin."""
        found: BatchSource | None = None
        highest: Urgency | None = None
        waiting = [0, 0, 0, 0]
        for source in self._sources:
            urgency = source.urgency()
            if urgency is None or self._computing[source] >= source.parallel:
                continue
            waiting[urgency[0]] += 1
            if highest is None or urgency < highest:
                found, highest = source, urgency
        if found is None or highest is None or found.width > 1 + len(self._free):
            return None
        if highest[0] >= Rank.PIECE and not self._has_room_to_yield(found.width, now_s):
            return None
        others, room = waiting[highest[0]] - 1, found.parallel - self._computing[found]
        return found, highest[0], max(min((1 + len(self._free) - others) // found.width, room), 1)

    def _has_room_to_yield(self, width: int, now_s: float) -> bool:
        """Return true if pieces or offline work may take `width` more slots; a batch that takes all slots may."""
        return not self.expects_online(now_s) or self._yielding + width <= max(self.slots - 1, width)

    def _report(self, ended: "Future[None]") -> None:
        error = ended.exception()
        if error is not None:  # no model error: computation turns those into results
            self._on_defect(error)
