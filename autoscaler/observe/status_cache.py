"""The latest statuses of workers and demands of selectors, in memory: the live part of a snapshot.

All statuses of workers are kept here: the last of each worker, and enough earlier ones to compute rates. Times are of a
monotonic clock that the caller passes. Statuses of an earlier epoch are void once a later one has arrived.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import log
from typing import Final

import msgspec

from schemas.rows.cluster import WorkerRow
from schemas.status import SERVING, Demand, InstanceState, InstanceStatus, WorkerStatus

KEPT_S: Final = 10
STATUS_TTL_S: Final = 3.0
"""Seconds for which a worker's status counts as a sign of life."""
HALF_LIFE_S: Final = 120.0
"""Seconds after which a use counts half."""
_ANSWERING: Final = SERVING | {InstanceState.DRAINING}
_SPACING_S: Final = 0.9
"""Seconds between two statuses that are kept; workers send ten a second."""


class UseRates:
    """Exponentially decaying counts of uses, by variant. Times are monotonic seconds and must not decrease.

    The load window is too short to distinguish one use a minute from one an hour. That difference decides which
    instances stay when memory is short.
    """

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self._half_life_s = half_life_s
        self._counts: dict[str, tuple[float, float]] = {}
        """The remaining count of each variant, and the time of its last update."""

    def add(self, variant: str, uses: int, now_s: float) -> None:
        """Count uses of a variant."""
        self._counts[variant] = self._count(variant, now_s) + uses, now_s

    def per_s(self, now_s: float) -> dict[str, float]:
        """Return the uses a second of each variant; a steady rate converges to itself."""
        mean_life_s = self._half_life_s / log(2)
        return {variant: self._count(variant, now_s) / mean_life_s for variant in self._counts}

    def forget(self, variants: Collection[str]) -> None:
        """Drop all other variants."""
        self._counts = {variant: kept for variant, kept in self._counts.items() if variant in variants}

    def _count(self, variant: str, now_s: float) -> float:
        count, at_s = self._counts.get(variant, (0.0, now_s))
        return count * 0.5 ** ((now_s - at_s) / self._half_life_s)


class ReceivedStatus(msgspec.Struct, frozen=True):
    """A worker's status, and the time of its arrival."""

    at_s: float
    status: WorkerStatus
    instances: dict[str, InstanceStatus]
    """Instances of the status, by variant."""


class WorkerStatusCache:
    """Cache of the latest statuses of each worker, and of the uses and demands of each variant.

    Args:
        clock: monotonic seconds.
        status_ttl_s: seconds for which a status counts as current.
        kept_s: seconds for which statuses are kept for rates.
    """

    def __init__(self, clock: Callable[[], float], status_ttl_s: float, kept_s: float = KEPT_S) -> None:
        self._clock = clock
        self._ttl_s = status_ttl_s
        self._kept_s = kept_s
        self._since_s = clock()
        self._received: dict[str, deque[ReceivedStatus]] = {}
        self._answered: dict[tuple[str, int, str], int] = {}
        self._used_s: dict[str, float] = {}
        self._demanded_s: dict[str, float] = {}
        self._asked_s: dict[str, float] = {}
        self._use_rates = UseRates()

    @property
    def observed_s(self) -> float:
        """Seconds since this cache was created."""
        return self._clock() - self._since_s

    def on_status(self, status: WorkerStatus) -> None:
        """Add a worker's status; one of an earlier epoch is ignored."""
        now_s = self._clock()
        received = self._received.setdefault(status.worker, deque())
        if received and received[-1].status.epoch > status.epoch:
            return
        if received and (received[-1].status.epoch < status.epoch or now_s - received[-1].at_s > self._kept_s):
            received.clear()
        before = received[-1].instances if received else None
        # The last status is replaced by the next one, unless it is old enough to be kept for rates.
        if len(received) > 1 and received[-1].at_s - received[-2].at_s < _SPACING_S:
            received.pop()
        received.append(ReceivedStatus(now_s, status, {instance.variant: instance for instance in status.instances}))
        while len(received) > 2 and now_s - received[1].at_s >= self._kept_s:
            received.popleft()
        for instance in status.instances:
            key = (status.worker, status.epoch, instance.variant)
            known = self._answered.get(key, 0)
            answered = instance.answered - (known if known <= instance.answered else 0)  # a new load counts from 0
            if answered and before is not None:
                self._use_rates.add(instance.variant, answered, now_s)
            if answered or instance.queued or (before is not None and _has_begun(instance, before)):
                self._used_s[instance.variant] = now_s
            self._answered[key] = instance.answered

    def on_demand(self, demand: Demand) -> None:
        """Add a selector's demand for a variant that no instance serves."""
        self._asked_s[demand.variant] = self._clock()
        self._use_rates.add(demand.variant, 1, self._clock())
        self._mark_demanded(demand.variant)

    def mark_waiting(self, queued: Iterable[str], served: Iterable[str]) -> None:
        """Record demands for variants whose queries wait now, unless an instance is wanted or still answers them.

        Args:
            queued: variants with waiting queries.
            served: variants with a wanted instance on a living worker.
        """
        answering = {one.variant for _, one in self.instances() if one.state in _ANSWERING}
        for variant in set(queued).difference(served, answering):
            self._mark_demanded(variant)

    def _mark_demanded(self, variant: str) -> None:
        self._demanded_s[variant] = self._used_s[variant] = self._clock()

    def instances(self) -> list[tuple[str, InstanceStatus]]:
        """Return worker and status of every instance whose worker sent a recent status."""
        return [
            (name, instance)
            for name, received in self._received.items()
            if self._is_fresh(received[-1])
            for instance in received[-1].status.instances
        ]

    def histories(self) -> list[tuple[str, Sequence[ReceivedStatus]]]:
        """Return the statuses, the latest last, of each worker that sent a recent one and is not leaving."""
        return [
            (name, received)
            for name, received in self._received.items()
            if self._is_fresh(received[-1]) and not received[-1].status.leaving
        ]

    def latest(self) -> list[WorkerStatus]:
        """Return the latest status of each worker that sent a recent one and is not leaving."""
        return [received[-1].status for _, received in self.histories()]

    def is_alive(self, row: WorkerRow) -> bool:
        """Return true if a worker is alive by its heartbeat or its status and has not announced to leave."""
        received = self._received.get(row.name)
        if received is None or received[-1].status.epoch != row.epoch:
            return row.alive
        return not received[-1].status.leaving and (row.alive or self._is_fresh(received[-1]))

    def with_liveness(self, rows: Iterable[WorkerRow]) -> tuple[WorkerRow, ...]:
        """Return the rows with `alive` set by heartbeat or status."""
        return tuple(msgspec.structs.replace(row, alive=self.is_alive(row)) for row in rows)

    def demand_age_s(self) -> dict[str, float]:
        """Return the seconds since a selector last demanded a variant or queries were seen waiting for it."""
        return {variant: self._clock() - at_s for variant, at_s in self._demanded_s.items()}

    def asked_age_s(self) -> dict[str, float]:
        """Return the seconds since a selector last demanded a variant."""
        return {variant: self._clock() - at_s for variant, at_s in self._asked_s.items()}

    def idle_s(self) -> dict[str, float]:
        """Return the seconds since a variant was last used or demanded, or began to serve."""
        return {variant: self._clock() - at_s for variant, at_s in self._used_s.items()}

    def use_rates(self) -> dict[str, float]:
        """Return the uses and demands a second, by variant, with exponential decay."""
        return self._use_rates.per_s(self._clock())

    def forget(self, variants: Collection[str], workers: Collection[str]) -> None:
        """Drop all other names, because names come from outside and must not fill the memory."""
        self._received = {name: received for name, received in self._received.items() if name in workers}
        self._used_s = {name: at_s for name, at_s in self._used_s.items() if name in variants}
        self._demanded_s = {name: at_s for name, at_s in self._demanded_s.items() if name in variants}
        self._asked_s = {name: at_s for name, at_s in self._asked_s.items() if name in variants}
        self._use_rates.forget(variants)
        current = {(name, received[-1].status.epoch) for name, received in self._received.items()}
        self._answered = {key: count for key, count in self._answered.items() if key[:2] in current}

    def _is_fresh(self, received: ReceivedStatus) -> bool:
        return self._clock() - received.at_s <= self._ttl_s


def _has_begun(instance: InstanceStatus, before: Mapping[str, InstanceStatus]) -> bool:
    """Return true if an instance began to serve since the previous status; its queries are not answered yet."""
    earlier = before.get(instance.variant)
    return instance.state in SERVING and (earlier is None or earlier.state not in SERVING)
