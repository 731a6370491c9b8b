"""Queue of the work that waits for an instance, and selection of the next batch. Pure: the clock is an argument.

Rules.
* Online work goes before offline work. Within each, the earliest deadline goes first.
* A large query waits in pieces; each piece is one batch. Other online work goes before pieces, except for the share of
  time reserved for pieces (`large_queries`).
* A batch holds work of the same input shapes. It is the largest batch whose predicted end still meets the earliest
  deadline in it that can be met, up to the batch size of peak throughput: a larger batch would delay all of its queries
  without a gain. Work that would be late even alone does not limit the batch; it may join.
* While several slots are free, a batch is an even share of the waiting inputs, if all end noticeably sooner that way.
* Expired work is not computed, unless its client accepts late answers.
* The queue never waits for a batch to fill: while work waits, there is a next batch (work conserving).

Work that is only predicted to be late is not dropped. With a pessimistic prediction the queue would drop everything,
measure nothing, and never correct the prediction. Dropping expired work limits the waste to the time of one batch.

Slot backlogs. Selectors send to several variants of a worker at once, so they need a time per slot. The mean is too
little: with two batches under way in two slots, a third one can begin when the shorter one ends; with four, it waits
for two of them.

Hot path: each call runs once per batch, and a lane has at most a few hundred entries. Sorted lists are faster than
heaps at this size.
"""

import math
from bisect import insort
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain, count
from operator import itemgetter
from typing import Final, Generic, NamedTuple, TypeAlias

from schemas.hardware import after_batch
from schemas.latency import BATCH_OVERHEAD_S, LatencyModel
from schemas.urgency import LEAST_URGENT, urgency_level
from workers.slots.large_queries import LargeQueries, PieceTurn, QueuedWork, W

_MOST_ROUNDS: Final = 4
"""Batches per slot that are simulated one by one; more are merged into larger ones, as their exact order matters less.
"""


class WaitingBatches(NamedTuple):
    """Batches of one instance that have not begun."""

    seconds: float
    """Predicted seconds of each batch."""
    number: int
    width: int
    """Slots that each batch takes."""


def slot_backlogs_s(left_s: Sequence[float], waiting: Iterable[WaitingBatches]) -> tuple[float, ...]:
    """Return the seconds until each slot is free, soonest first.

    Args:
        left_s: seconds left of each slot's current batch; 0 for a free slot.
        waiting: batches that begin in this order as soon as there are slots.
    """
    slots = sorted(left_s)
    for batches in waiting:
        rounds = min(batches.number, _MOST_ROUNDS * len(slots))
        for _ in range(rounds):
            slots = after_batch(slots, batches.seconds * batches.number / rounds, batches.width)
    return tuple(slots)


def inputs_by_urgency(waiting: Iterable[QueuedWork], now_s: float) -> tuple[int, ...]:
    """Return the inputs of waiting work by level of urgency, without zeros at the end."""
    inputs = [0] * (LEAST_URGENT + 1)
    for work in waiting:
        inputs[urgency_level(work.deadline_s - now_s)] += work.inputs
    while inputs and not inputs[-1]:
        inputs.pop()
    return tuple(inputs)


NO_DEADLINE: Final = math.inf


class Rank:
    """Ranks of work: the smallest goes first. Plain integers, because they are compared for each batch."""

    TURN: Final = 0
    """A piece of a large online query that goes before other online work, because pieces are behind their share."""
    ONLINE: Final = 1
    PIECE: Final = 2
    """A piece of a large online query."""
    OFFLINE: Final = 3


Urgency: TypeAlias = tuple[int, float, int]
"""Sort key (rank, deadline, arrival): the smaller goes first."""


class NextBatch(NamedTuple, Generic[W]):
    """Work to compute now, and work that has expired. The batch is empty only if nothing else waits."""

    batch: list[W]
    expired: list[W]


class BatchQueue(Generic[W]):
    """Work that was fetched for one instance and is not computed yet, in lanes of equal shape and mode."""

    def __init__(
        self, latency: LatencyModel, arrivals: Iterator[int] | None = None, turn: PieceTurn | None = None
    ) -> None:
        """Make an empty queue.

        Queues that compete for the same slots must share `arrivals` and `turn`, or one starves another.
        """
        self.use_latency_model(latency)
        self.online_inputs = 0
        """Inputs of online queries that wait, excluding large queries."""
        self._offline_inputs = 0
        self._large: LargeQueries[W] = LargeQueries()
        self._large_offline: LargeQueries[W] = LargeQueries()
        self._has_pieces = False
        self._turn = turn or PieceTurn()
        self._lanes: dict[tuple[bool, Hashable], list[_Entry[W]]] = {}
        self._arrivals = count(1) if arrivals is None else arrivals

    def use_latency_model(self, latency: LatencyModel) -> None:
        """Choose batches by this latency model from now on, e.g. one with smaller batches."""
        self.latency = latency
        self.best_batch = latency.best_batch

    def add(self, work: W) -> None:
        """Add work to the queue."""
        lane = self._lanes.setdefault((work.offline, work.shape), [])
        insort(lane, _Entry(work.deadline_s, next(self._arrivals), work), key=_order)
        self._count(work, 1)

    def add_large(self, tenant: str, pieces: Sequence[W], now_s: float) -> None:
        """Add the pieces of a large query to the queue."""
        offline = pieces[0].offline
        self._has_pieces = True
        self._turn.waiting += not offline
        queries = self._large_offline if offline else self._large
        queries.add(tenant, pieces, next(self._arrivals), now_s)

    @property
    def large_inputs(self) -> int:
        """Inputs of large online queries that wait."""
        return self._large.inputs

    @property
    def offline_inputs(self) -> int:
        """Inputs of offline queries that wait."""
        return self._offline_inputs + self._large_offline.inputs

    def urgency(self) -> Urgency | None:
        """Return the urgency of the most urgent work, or None if none waits."""
        found: Urgency | None = None
        for (offline, _shape), lane in self._lanes.items():
            urgency = (Rank.OFFLINE if offline else Rank.ONLINE, lane[0].deadline_s, lane[0].arrival)
            if found is None or urgency < found:
                found = urgency
        if not self._has_pieces:
            return found
        pieces = (self._large, Rank.TURN if self._turn.is_due else Rank.PIECE), (self._large_offline, Rank.OFFLINE)
        large = [(rank, *key) for queries, rank in pieces if (key := queries.next_key()) is not None]
        return min(large if found is None else [found, *large])

    def next_batch(self, now_s: float, slowdown: float, slots: int = 1) -> NextBatch[W]:
        """Remove the next batch, and all expired work, from the queue.

        Args:
            now_s: seconds of the clock that the deadlines use.
            slowdown: current over profiled latency, for inputs of the profiled length.
            slots: number of batches that can begin now.
        """
        expired = self._expire(now_s)
        urgency = self.urgency()
        if urgency is None:
            return NextBatch([], expired)
        if self._has_pieces:
            for queries in (self._large, self._large_offline):
                if queries.next_key() == urgency[1:]:
                    before = self._large.queries
                    piece = queries.take()
                    self._count_large(before)
                    return NextBatch([piece], expired)
        key = next(key for key, lane in self._lanes.items() if lane[0].arrival == urgency[2])
        lane = self._lanes[key]
        waiting = [entry.work for entry in lane]
        maximum = self.best_batch
        if slots > 1:
            maximum = share_of_slot(sum(work.inputs for work in waiting), slots, self.latency, maximum)
        predicted_s = _predicted(self.latency, waiting[0].extra_s, slowdown)
        chosen = choose_batch(waiting, now_s, predicted_s, maximum)
        return NextBatch(self._take(key, lane, chosen), expired)

    def online_batches(self, slowdown: float, width: int) -> list[WaitingBatches]:
        """Return the batches that the waiting online work makes, each computed in `width` slots."""
        full, rest = divmod(self.online_inputs, self.best_batch)
        sizes = ((self.best_batch, full), (rest, min(rest, 1)))
        return [WaitingBatches(self.latency.batch_s(size) * slowdown, count, width) for size, count in sizes if count]

    def discard(self, unwanted: Iterable[W]) -> None:
        """Remove waiting work without computing it."""
        gone = set(map(id, unwanted))
        for key, lane in list(self._lanes.items()):
            self._take(key, lane, [index for index, entry in enumerate(lane) if id(entry.work) in gone])
        self._large_offline.discard(gone)
        before = self._large.queries
        self._large.discard(gone)
        self._count_large(before)

    def waiting(self) -> list[W]:
        """Return all work that waits, in no particular order."""
        return [entry.work for lane in self._lanes.values() for entry in lane] + [*self._large, *self._large_offline]

    def waiting_online(self) -> list[W]:
        """Return the online work that waits, large queries excluded, in no particular order."""
        return [entry.work for (offline, _), lane in self._lanes.items() if not offline for entry in lane]

    def _count_large(self, before: int) -> None:
        """Report to the turn the large online queries that left the queue, given their number before."""
        self._has_pieces = bool(self._large.inputs or self._large_offline.inputs)
        for _ in range(before - self._large.queries):
            self._turn.left()

    def _expire(self, now_s: float) -> list[W]:
        expired: list[W] = []
        for key, lane in list(self._lanes.items()):
            if lane[0].deadline_s <= now_s:
                past = [i for i, entry in enumerate(lane) if entry.deadline_s <= now_s and not entry.work.allow_late]
                expired += self._take(key, lane, past)
        if self._has_pieces:
            before = self._large.queries
            expired += chain(self._large.expire(now_s), self._large_offline.expire(now_s))
            self._count_large(before)
        return expired

    def _take(self, key: tuple[bool, Hashable], lane: "list[_Entry[W]]", chosen: Sequence[int]) -> list[W]:
        taken = [lane[index].work for index in chosen]
        gone = set(chosen)
        lane[:] = [entry for index, entry in enumerate(lane) if index not in gone]
        if not lane:
            del self._lanes[key]
        for work in taken:
            self._count(work, -1)
        return taken

    def _count(self, work: W, sign: int) -> None:
        if work.offline:
            self._offline_inputs += sign * work.inputs
        else:
            self.online_inputs += sign * work.inputs


class _Entry(NamedTuple, Generic[W]):
    deadline_s: float
    arrival: int
    work: W


_order = itemgetter(0, 1)


def share_of_slot(waiting: int, slots: int, latency: LatencyModel, maximum: int) -> int:
    """Return the most inputs that a batch may have while `slots` are free for the `waiting` inputs."""
    whole, share = min(waiting, maximum), math.ceil(waiting / slots)
    gained_s = latency.batch_s(whole) - latency.batch_s(min(share, whole))
    return share if gained_s > BATCH_OVERHEAD_S else maximum


def choose_batch(
    lane: Sequence[QueuedWork], now_s: float, predicted_s: Callable[[int], float], maximum: int
) -> list[int]:
    """Return the indices, ascending, of the work in `lane` that makes the next batch.

    `lane` is sorted by deadline and not empty. The batch holds at most `maximum` inputs, unless a single query has
    more. `predicted_s` returns the predicted seconds of a batch by its size.
    """
    if len(lane) == 1:
        return [0]
    in_time = (i for i, work in enumerate(lane) if _meets_deadline(work, work.inputs, now_s, predicted_s))
    first = next(in_time, None)
    if first is None:  # all will be late: compute as many as possible at once
        first, limit = 0, maximum
    else:
        limit = _batch_limit(lane[first], now_s, predicted_s, maximum)
    size, chosen = lane[first].inputs, [first]
    for index, work in enumerate(lane):
        if size >= limit:
            break
        if index != first and size + work.inputs <= limit:
            size += work.inputs
            chosen.append(index)
    return sorted(chosen)


def batch_s(latency: LatencyModel, batch: Sequence[QueuedWork], slowdown: float) -> float:
    """Return the predicted seconds of this work as one batch, in which each input takes as long as the longest."""
    longest_s = max((work.extra_s for work in batch), default=0.0)
    return _predicted(latency, longest_s, slowdown)(sum(work.inputs for work in batch))


def _predicted(latency: LatencyModel, extra_s: float, slowdown: float) -> Callable[[int], float]:
    """Return a function from batch size to predicted seconds, for inputs that take `extra_s` more than profiled."""
    return lambda batch: (latency.promised_s(batch) + batch * extra_s) * slowdown


def _meets_deadline(work: QueuedWork, batch: int, now_s: float, predicted_s: Callable[[int], float]) -> bool:
    return now_s + predicted_s(batch) <= work.deadline_s


def _batch_limit(work: QueuedWork, now_s: float, predicted_s: Callable[[int], float], maximum: int) -> int:
    """Return the size of the largest batch in which `work` meets its deadline."""
    if work.deadline_s == NO_DEADLINE:
        return maximum
    limit = work.inputs
    while limit < maximum and _meets_deadline(work, limit + 1, now_s, predicted_s):
        limit += 1
    return limit
