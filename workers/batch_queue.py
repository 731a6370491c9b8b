"""The queries that wait for an instance, and the choice of the next batch: pure, the clock is an argument.

Rules.
* Online work first; offline work only when no online work waits. Within each, the earliest deadline first.
* A batch holds work of the same input shapes. It is the largest whose predicted end still meets the earliest deadline
  in it that can be met at all, up to the size at which the profile's throughput peaks: a larger one would delay all in
  it and help nobody. Work that is bound to be late, even alone, limits no batch: it may ride along.
* While several slots are free, a batch is an even share of what waits, if all are done noticeably sooner that way.
* What has expired is not computed, unless its client takes late answers.
* Nothing ever waits for a batch to fill: while anything waits there is a next batch (work conserving).

Rejected: dropping what is predicted to be late. A prediction that is too dark would then drop everything, measure
nothing and so never be corrected; what has really expired is dropped, which bounds the waste by one batch's time.

Hot: each call is once a batch and a lane has at most some hundred entries, so plain sorted lists beat heaps here.
"""

import math
from bisect import insort
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import count
from operator import itemgetter
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from schemas.latency import LatencyModel
from workers.slot_backlog import WaitingBatches

NO_DEADLINE: Final = math.inf
BATCH_OVERHEAD_S: Final = 0.0005
"""Seconds that a batch costs beside its computation, about: a thread is woken, and waits for the interpreter."""
_AS_GOOD: Final = 0.01
"""Share by which a batch size may be slower per input and still count as the best."""

Urgency: TypeAlias = tuple[bool, float, int]
"""Sort key (offline, deadline, arrival): the smaller goes first."""


class QueuedWork(Protocol):
    """Inputs of one query that wait together: at most a batch's worth."""

    @property
    def inputs(self) -> int:
        """Number of inputs, at least 1."""
        ...

    @property
    def shape(self) -> Hashable:
        """Key that is equal for work that can share a batch."""
        ...

    @property
    def extra_s(self) -> float:
        """Seconds that each of its inputs takes more than the latency model says, because of its length."""
        ...

    @property
    def deadline_s(self) -> float:
        """Deadline in seconds of a monotonic clock, or `NO_DEADLINE`."""
        ...

    @property
    def offline(self) -> bool:
        """Whether it is computed in idle time only."""
        ...

    @property
    def allow_late(self) -> bool:
        """Whether it is worth computing after its deadline."""
        ...


W = TypeVar("W", bound=QueuedWork)


class NextBatch(NamedTuple, Generic[W]):
    """Work to compute now, and work that has expired. The batch is empty only if nothing else waits."""

    batch: list[W]
    expired: list[W]


class BatchQueue(Generic[W]):
    """Work that was fetched for one instance and does not compute yet, in lanes of equal shape and mode."""

    def __init__(self, latency: LatencyModel, arrivals: Iterator[int] | None = None) -> None:
        """Make an empty queue; queues whose work competes must count `arrivals` together, or one starves another."""
        self.use_latency_model(latency)
        self.online_inputs = 0
        """Inputs of online queries that wait."""
        self.offline_inputs = 0
        """Inputs of offline queries that wait."""
        self._lanes: dict[tuple[bool, Hashable], list[_Entry[W]]] = {}
        self._arrivals = count(1) if arrivals is None else arrivals

    def use_latency_model(self, latency: LatencyModel) -> None:
        """Choose batches by this model from now on, e.g. one with smaller batches."""
        self.latency = latency
        self.best_batch = best_batch(latency)

    def add(self, work: W) -> None:
        """Let `work` wait."""
        lane = self._lanes.setdefault((work.offline, work.shape), [])
        insort(lane, _Entry(work.deadline_s, next(self._arrivals), work), key=_order)
        self._count(work, 1)

    def urgency(self) -> Urgency | None:
        """Urgency of the most urgent work; None if none waits."""
        if not self._lanes:
            return None
        return min(((key[0], lane[0].deadline_s, lane[0].arrival) for key, lane in self._lanes.items()), default=None)

    def next_batch(self, now_s: float, slowdown: float, slots: int = 1) -> NextBatch[W]:
        """Take the next batch, and all that has expired, out of the queue.

        Args:
            now_s: seconds of the clock of the deadlines.
            slowdown: present over profiled latency, of inputs of the profiled length.
            slots: number of batches that can begin now.
        """
        expired = self._expire(now_s)
        urgency = self.urgency()
        if urgency is None:
            return NextBatch([], expired)
        key = next(key for key, lane in self._lanes.items() if lane[0].arrival == urgency[2])
        lane = self._lanes[key]
        waiting = [entry.work for entry in lane]
        maximum = self.best_batch if slots == 1 else self._share(waiting, slots)
        predicted_s = _predicted(self.latency, waiting[0].extra_s, slowdown)
        chosen = choose_batch(waiting, now_s, predicted_s, maximum)
        return NextBatch(self._take(key, lane, chosen), expired)

    def online_batches(self, slowdown: float, width: int) -> list[WaitingBatches]:
        """What the online work that waits makes, in slots `width` of which compute a batch."""
        full, rest = divmod(self.online_inputs, self.best_batch)
        sizes = ((self.best_batch, full), (rest, min(rest, 1)))
        return [WaitingBatches(self.latency.batch_s(size) * slowdown, count, width) for size, count in sizes if count]

    def discard(self, unwanted: Iterable[W]) -> None:
        """Forget work that waits."""
        gone = set(map(id, unwanted))
        for key, lane in list(self._lanes.items()):
            self._take(key, lane, [index for index, entry in enumerate(lane) if id(entry.work) in gone])

    def waiting(self) -> list[W]:
        """All work that waits, in no particular order."""
        return [entry.work for lane in self._lanes.values() for entry in lane]

    def _share(self, waiting: Sequence[W], slots: int) -> int:
        return share_of_slot(sum(work.inputs for work in waiting), slots, self.latency, self.best_batch)

    def _expire(self, now_s: float) -> list[W]:
        expired: list[W] = []
        for key, lane in list(self._lanes.items()):
            if lane[0].deadline_s <= now_s:
                past = [i for i, entry in enumerate(lane) if entry.deadline_s <= now_s and not entry.work.allow_late]
                expired += self._take(key, lane, past)
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
            self.offline_inputs += sign * work.inputs
        else:
            self.online_inputs += sign * work.inputs


class _Entry(NamedTuple, Generic[W]):
    deadline_s: float
    arrival: int
    work: W


_order = itemgetter(0, 1)


def best_batch(latency: LatencyModel) -> int:
    """The batch size of the highest throughput; the smallest of those that are as good but for a percent.

    A larger one would take as long for each input, and keep all in it, and what comes next, waiting for the last.
    """
    sizes = range(1, latency.max_batch + 1)
    per_input = {batch: (latency.batch_s(batch) + BATCH_OVERHEAD_S) / batch for batch in sizes}
    enough = min(per_input.values()) * (1 + _AS_GOOD)
    return min(batch for batch, seconds in per_input.items() if seconds <= enough)


def share_of_slot(waiting: int, slots: int, latency: LatencyModel, maximum: int) -> int:
    """The most inputs that a batch may have while `slots` are free for the inputs that wait."""
    whole, share = min(waiting, maximum), math.ceil(waiting / slots)
    gained_s = latency.batch_s(whole) - latency.batch_s(min(share, whole))
    return share if gained_s > BATCH_OVERHEAD_S else maximum


def choose_batch(
    lane: Sequence[QueuedWork], now_s: float, predicted_s: Callable[[int], float], maximum: int
) -> list[int]:
    """Indices, in their order, of the work in `lane` (sorted by deadline, not empty) that makes the next batch.

    It holds at most `maximum` inputs, unless a single query has more. `predicted_s` says how long a batch takes.
    """
    if len(lane) == 1:
        return [0]
    in_time = (i for i, work in enumerate(lane) if _meets_deadline(work, work.inputs, now_s, predicted_s))
    first = next(in_time, None)
    if first is None:  # all are bound to be late: the most at once is the best that is left
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
    """Predicted seconds of this work in one batch, in which all take as long as the longest."""
    longest_s = max((work.extra_s for work in batch), default=0.0)
    return _predicted(latency, longest_s, slowdown)(sum(work.inputs for work in batch))


def _predicted(latency: LatencyModel, extra_s: float, slowdown: float) -> Callable[[int], float]:
    """Seconds by batch size, of inputs that each take `extra_s` more than as profiled."""
    return lambda batch: (latency.promised_s(batch) + batch * extra_s) * slowdown


def _meets_deadline(work: QueuedWork, batch: int, now_s: float, predicted_s: Callable[[int], float]) -> bool:
    return now_s + predicted_s(batch) <= work.deadline_s


def _batch_limit(work: QueuedWork, now_s: float, predicted_s: Callable[[int], float], maximum: int) -> int:
    """The largest batch that `work` can be part of without being late."""
    if work.deadline_s == NO_DEADLINE:
        return maximum
    limit = work.inputs
    while limit < maximum and _meets_deadline(work, limit + 1, now_s, predicted_s):
        limit += 1
    return limit
