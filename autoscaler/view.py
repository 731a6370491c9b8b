"""What workers and selectors said lately: the live half of a situation, kept in memory.

Times are of a monotonic clock that is passed in. What an earlier life of a worker said is void once a later one spoke.
"""

from collections.abc import Callable, Collection, Iterable

import msgspec

from schemas.records import WorkerRow
from schemas.status import Demand, InstanceStatus, WorkerStatus


class _Heard(msgspec.Struct, frozen=True):
    at_s: float
    status: WorkerStatus


class View:
    """The latest status of each worker, and when each variant was last used and last demanded."""

    def __init__(self, clock: Callable[[], float], status_s: float) -> None:
        self._clock = clock
        self._status_s = status_s
        self._since_s = clock()
        self._heard: dict[str, _Heard] = {}
        self._answered: dict[tuple[str, int, str], int] = {}
        self._used_s: dict[str, float] = {}
        self._demanded_s: dict[str, float] = {}

    @property
    def observed_s(self) -> float:
        """How long this view has been watching."""
        return self._clock() - self._since_s

    def on_status(self, status: WorkerStatus) -> None:
        """A worker said how it is."""
        known = self._heard.get(status.worker)
        if known is not None and known.status.epoch > status.epoch:
            return
        now_s = self._clock()
        self._heard[status.worker] = _Heard(now_s, status)
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
            if self._is_fresh(heard)
            for instance in heard.status.instances
        ]

    def is_alive(self, row: WorkerRow) -> bool:
        """By its heartbeat or its status, unless it says that it is leaving."""
        heard = self._heard.get(row.name)
        if heard is None or heard.status.epoch != row.epoch:
            return row.alive
        return not heard.status.leaving and (row.alive or self._is_fresh(heard))

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
        current = {(name, heard.status.epoch) for name, heard in self._heard.items()}
        self._answered = {key: count for key, count in self._answered.items() if key[:2] in current}

    def _is_fresh(self, heard: _Heard) -> bool:
        return self._clock() - heard.at_s <= self._status_s
