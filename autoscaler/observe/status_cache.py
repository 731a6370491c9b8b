"""What workers and selectors said lately: the live half of a situation, kept in memory.

It is the one place where statuses of workers are kept, the last of each and enough of those before it to tell rates
from. Times are of a monotonic clock that is passed in. What an earlier life of a worker said is void once a later one
spoke.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from schemas.rows.placement import WorkerRow
from schemas.status import Demand, InstanceStatus, WorkerStatus

KEPT_S: Final = 10
_SPACING_S: Final = 0.9
"""Between two statuses that are kept; workers speak ten times a second."""


class Heard(msgspec.Struct, frozen=True):
    """What a worker said, and when."""

    at_s: float
    status: WorkerStatus
    instances: dict[str, InstanceStatus]
    """By variant."""


class WorkerStatusCache:
    """The latest statuses of each worker, and when each variant was last used and last demanded.

    Args:
        clock: monotonic seconds.
        status_ttl_s: how long a worker's word stands.
        kept_s: how far back statuses are kept for those who tell rates from them.
    """

    def __init__(self, clock: Callable[[], float], status_ttl_s: float, kept_s: float = KEPT_S) -> None:
        self._clock = clock
        self._status_s = status_ttl_s
        self._kept_s = kept_s
        self._since_s = clock()
        self._heard: dict[str, deque[Heard]] = {}
        self._answered: dict[tuple[str, int, str], int] = {}
        self._used_s: dict[str, float] = {}
        self._demanded_s: dict[str, float] = {}

    @property
    def observed_s(self) -> float:
        """How long this view has been watching."""
        return self._clock() - self._since_s

    def on_status(self, status: WorkerStatus) -> None:
        """A worker said how it is."""
        now_s = self._clock()
        heard = self._heard.setdefault(status.worker, deque())
        if heard and heard[-1].status.epoch > status.epoch:
            return
        if heard and (heard[-1].status.epoch < status.epoch or now_s - heard[-1].at_s > self._kept_s):
            heard.clear()
        # The last one stands for the present and gives way to the next, unless the one before it is old enough.
        if len(heard) > 1 and heard[-1].at_s - heard[-2].at_s < _SPACING_S:
            heard.pop()
        heard.append(Heard(now_s, status, {instance.variant: instance for instance in status.instances}))
        while len(heard) > 2 and now_s - heard[1].at_s >= self._kept_s:
            heard.popleft()
        for instance in status.instances:
            key = (status.worker, status.epoch, instance.variant)
            if instance.answered > self._answered.get(key, 0) or instance.queued:
                self._used_s[instance.variant] = now_s
            self._answered[key] = instance.answered

    def on_demand(self, demand: Demand) -> None:
        """A selector asked for a variant that nobody serves."""
        self.want(demand.variant)

    def want(self, variant: str) -> None:
        """Queries wait for a variant that nobody serves."""
        self._demanded_s[variant] = self._used_s[variant] = self._clock()

    def instances(self) -> list[tuple[str, InstanceStatus]]:
        """(worker, status) of every instance whose worker spoke lately."""
        return [
            (name, instance)
            for name, heard in self._heard.items()
            if self._is_fresh(heard[-1])
            for instance in heard[-1].status.instances
        ]

    def speaking(self) -> list[tuple[str, Sequence[Heard]]]:
        """What each worker said that spoke lately and is not leaving, the latest last."""
        return [
            (name, heard)
            for name, heard in self._heard.items()
            if self._is_fresh(heard[-1]) and not heard[-1].status.leaving
        ]

    def statuses(self) -> list[WorkerStatus]:
        """The last word of each of them."""
        return [heard[-1].status for _, heard in self.speaking()]

    def is_alive(self, row: WorkerRow) -> bool:
        """By its heartbeat or its status, unless it says that it is leaving."""
        heard = self._heard.get(row.name)
        if heard is None or heard[-1].status.epoch != row.epoch:
            return row.alive
        return not heard[-1].status.leaving and (row.alive or self._is_fresh(heard[-1]))

    def judged(self, rows: Iterable[WorkerRow]) -> tuple[WorkerRow, ...]:
        """The same rows; `alive` by heartbeat or status."""
        return tuple(msgspec.structs.replace(row, alive=self.is_alive(row)) for row in rows)

    def demand_age_s(self) -> dict[str, float]:
        """By variant, since it was last demanded."""
        return {variant: self._clock() - at_s for variant, at_s in self._demanded_s.items()}

    def idle_s(self) -> dict[str, float]:
        """By variant, since it was last used or demanded."""
        return {variant: self._clock() - at_s for variant, at_s in self._used_s.items()}

    def forget(self, variants: Collection[str], workers: Collection[str]) -> None:
        """Keep only what concerns these: names come from outside, memory must not grow with them."""
        self._heard = {name: heard for name, heard in self._heard.items() if name in workers}
        self._used_s = {name: at_s for name, at_s in self._used_s.items() if name in variants}
        self._demanded_s = {name: at_s for name, at_s in self._demanded_s.items() if name in variants}
        current = {(name, heard[-1].status.epoch) for name, heard in self._heard.items()}
        self._answered = {key: count for key, count in self._answered.items() if key[:2] in current}

    def _is_fresh(self, heard: Heard) -> bool:
        return self._clock() - heard.at_s <= self._status_s
