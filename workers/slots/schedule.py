"""Schedule of the slots of a device: which batch a free slot computes next. Pure: the caller passes the time.

    schedule.begin(now_s) -> slot and batch -> the caller computes it -> schedule.end(slot, now_s) -> begin again

Rules.
* Online work of any instance goes before offline work of any; then the earliest deadline goes first. An instance
  computes as many batches at once as slots are free and its session allows. Nothing is preempted: online work waits for
  at most the batch that ends first.
* Pieces of large queries go after other online work, except for their share of the time (`large_queries`).
* While online work is expected (`broker.arrivals`), one of several slots stays free of offline work and of
  pieces.
* A batch may take several slots, for as many cores. While it is the most urgent, no other begins before enough slots
  are free or, for offline work, before it may have that many. Otherwise narrow batches would always go first.
* A batch that has been under way for a tenth of its limit is stuck: a spare slot replaces its slot until it ends.

All times are seconds of one monotonic clock. Calls must not overlap.
"""

from dataclasses import dataclass
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

from broker.arrivals import OnlineArrivals
from workers.slots.batch_queue import Rank, Urgency
from workers.slots.large_queries import PieceTurn

_ASIDE_SHARE: Final = 0.1  # share of its limit after which a batch is set aside


class ScheduledBatch(Protocol):
    """Work that one slot computes at once."""

    inputs: int
    predicted_s: float
    limit_s: float
    """Seconds that it may take."""
    shared: bool
    """True if another slot computed at the same time; set by the schedule."""
    consecutive: bool
    """True if its slot computed nothing of another source since this source's previous batch; set by the schedule."""


B = TypeVar("B", bound=ScheduledBatch)
B_co = TypeVar("B_co", bound=ScheduledBatch, covariant=True)


class BatchSource(Protocol[B_co]):
    """Source of batches: an instance."""

    parallel: int
    """Number of its batches that may compute at once."""
    is_concurrent: bool
    """True if another of its batches may begin while one is set aside."""
    width: int
    """Number of slots that each of its batches takes, at most all."""

    def urgency(self) -> Urgency | None:
        """Return the urgency of its most urgent work, or None if none may begin."""
        ...

    def next_batch(self, slots: int, now_s: float) -> B_co | None:
        """Take the next batch out of the queue; `slots` batches may begin now. It must not raise."""
        ...


@dataclass(slots=True, eq=False)
class _BatchUnderWay(Generic[B]):
    """Batch that a slot computes now."""

    source: BatchSource[B]
    batch: B
    others: list[int]
    """Slots that it takes besides its own."""
    rank: int
    began_s: float
    aside: bool = False
    """True if a spare slot has replaced its slot."""
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


class SlotSchedule(Generic[B]):
    """Slots of one device, free or with a batch under way, and the sources that compete for them."""

    def __init__(self, slots: int, spare: int = 0) -> None:
        """Make a schedule of `slots` free slots; up to `spare` batches can be set aside at once."""
        self.arrivals = count(1)
        """Arrival numbers, shared by the queues of all sources, so that work of equal urgency is computed in order."""
        self.turn = PieceTurn()
        self.slots = slots
        self._free = list(range(slots))
        self._spare = list(range(slots, slots + spare))
        self._sources: list[BatchSource[B]] = []
        self._computing: dict[BatchSource[B], int] = {}
        """Number of batches under way, by source."""
        self._yielding = 0  # slots taken by pieces and offline work
        self._online_arrivals = OnlineArrivals()
        """Times of the online batches of all sources."""
        self._busy_s = 0.0
        self._under_way: dict[int, _BatchUnderWay[B]] = {}
        """Batches, by slot."""
        self._last: list[BatchSource[B] | None] = [None] * (slots + spare)
        """Source of the last batch of each slot."""

    def add_source(self, source: BatchSource[B]) -> None:
        """Take batches from `source` from now on."""
        self._sources.append(source)

    def remove_source(self, source: BatchSource[B]) -> None:
        """Take no more batches from `source`; a batch under way continues."""
        self._sources.remove(source)
        self._last = [None if last is source else last for last in self._last]

    @property
    def has_free(self) -> bool:
        """True if a slot is free."""
        return bool(self._free)

    def begin(self, now_s: float) -> tuple[int, B] | None:
        """Begin the most urgent batch in a free slot. Returns both, or None if no slot is free or no batch may begin.

        The slot that has become free last is taken first, since its caches are warm.
        """
        if not self._free:
            return None
        while (found := self._next(now_s)) is not None:
            source, rank, slots = found
            batch = source.next_batch(slots, now_s)
            if batch is not None:
                return self._begin(source, rank, batch, now_s), batch
        return None

    def end(self, slot: int, now_s: float) -> None:
        """Account for the end of the slot's batch, and free its slots."""
        ended = self._under_way.pop(slot)
        self._busy_s += ended.slot_s(now_s)
        if not ended.aside:
            self._free_slots(ended)
            self._free.append(slot)
            return
        if not ended.source.is_concurrent:
            self._count_out(ended.source)
        self._spare.append(slot)

    def watch(self, watched_s: float) -> tuple[list[B], list[B]]:
        """Count `watched_s` more seconds for each batch under way, and set stuck ones aside while slots are spare.

        Call it at regular intervals. Time in which nobody called it, as in a process that was stopped, does not count.

        Returns:
            The batches that were set aside now, and the batches that have exceeded their limits now.
        """
        aside: list[B] = []
        overdue: list[B] = []
        for under_way in self._under_way.values():
            before_s = under_way.watched_s
            under_way.watched_s += watched_s
            if before_s <= under_way.batch.limit_s < under_way.watched_s:
                overdue.append(under_way.batch)
            if under_way.is_stuck and not under_way.aside and self._spare:
                self._set_aside(under_way)
                aside.append(under_way.batch)
        return aside, overdue

    @property
    def is_exhausted(self) -> bool:
        """True if batches that do not end occupy all slots, including the spare ones."""
        return not self._spare and not self._free and all(each.is_stuck for each in self._under_way.values())

    def busy_s(self, now_s: float) -> float:
        """Return the seconds that slots have computed so far, including batches under way."""
        return self._busy_s + sum(under_way.slot_s(now_s) for under_way in self._under_way.values())

    def done_inputs(self, source: BatchSource[B], now_s: float) -> float:
        """Return the inputs of online batches under way that should be computed by now; pieces do not count."""
        batches = [e for e in self._under_way.values() if e.source is source and e.rank == Rank.ONLINE]
        return sum(each.batch.inputs * each.done(now_s) for each in batches)

    def left_s(self, now_s: float) -> list[float]:
        """Return the predicted seconds left of each slot's online work; 0 for a slot without any."""
        online = [e for e in self._under_way.values() if e.rank != Rank.OFFLINE and not e.aside]
        left_s = [each.left_s(now_s) for each in online for _ in range(each.width)]
        return left_s + [0.0] * (self.slots - len(left_s))

    def expects_online(self, now_s: float) -> bool:
        """Return true if online work of any source is expected now."""
        return self._online_arrivals.expects_more(now_s)

    def _begin(self, source: BatchSource[B], rank: int, batch: B, now_s: float) -> int:
        """Account for the begin of a batch. Returns its slot."""
        slot, *others = taken = [self._free.pop() for _ in range(source.width)]
        batch.consecutive = self._last[slot] is source
        for each in taken:
            self._last[each] = source
        self._count_in(source)
        self._under_way[slot] = under_way = _BatchUnderWay(source, batch, others, rank, now_s)
        if len(self._under_way) > 1:
            for each in self._under_way.values():
                each.batch.shared = True
        if self.turn.waiting:
            self._count_turn(under_way)
        if rank == Rank.ONLINE:
            self._online_arrivals.came(now_s)
        else:
            self._yielding += under_way.width
        return slot

    def _count_turn(self, begun: _BatchUnderWay[B]) -> None:
        if begun.rank == Rank.TURN:
            self.turn.taken(begun.batch.predicted_s * begun.width)
        elif begun.rank == Rank.ONLINE and not self._yielding:
            self.turn.passed_over(begun.batch.predicted_s * begun.width)

    def _set_aside(self, stuck: _BatchUnderWay[B]) -> None:
        stuck.aside = True
        self._free_slots(stuck)
        if not stuck.source.is_concurrent:
            self._count_in(stuck.source)
        self._free.append(self._spare.pop())

    def _free_slots(self, ended: _BatchUnderWay[B]) -> None:
        """Free the other slots of a batch, and its place among the batches of its source."""
        self._count_out(ended.source)
        if ended.rank != Rank.ONLINE:
            self._yielding -= ended.width
        self._free += ended.others
        ended.others = []

    def _count_in(self, source: BatchSource[B]) -> None:
        self._computing[source] = self._computing.get(source, 0) + 1

    def _count_out(self, source: BatchSource[B]) -> None:
        left = self._computing.pop(source) - 1
        if left:
            self._computing[source] = left

    def _next(self, now_s: float) -> tuple[BatchSource[B], int, int] | None:
        """Find the source of the next batch, its rank, and the number of its batches that may begin."""
        found: BatchSource[B] | None = None
        highest: Urgency | None = None
        computing, waiting = self._computing, [0, 0, 0, 0]
        for source in self._sources:
            urgency = source.urgency()
            if urgency is None or computing.get(source, 0) >= source.parallel:
                continue
            waiting[urgency[0]] += 1
            if highest is None or urgency < highest:
                found, highest = source, urgency
        if found is None or highest is None or found.width > len(self._free):
            return None
        if highest[0] >= Rank.PIECE and not self._has_room_to_yield(found.width, now_s):
            return None
        others, room = waiting[highest[0]] - 1, found.parallel - computing.get(found, 0)
        return found, highest[0], max(min((len(self._free) - others) // found.width, room), 1)

    def _has_room_to_yield(self, width: int, now_s: float) -> bool:
        """Return true if pieces or offline work may take `width` more slots; a batch that takes all slots may."""
        return not self.expects_online(now_s) or self._yielding + width <= max(self.slots - 1, width)
