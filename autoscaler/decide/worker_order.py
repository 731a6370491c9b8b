"""Keeps workers sorted by load, so that the least loaded one with room is found without a scan.

Workers of each hardware are in two lists, undisturbed and disturbed, and in a third one by free memory. A candidate
larger than any free memory is refused after one lookup. Changed workers are sorted again at the next query.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.worker_capacity import LoadKey, WorkerCapacity

K = TypeVar("K", LoadKey, tuple[int, str])

SLACK: Final = 0.01
"""Slots below which a difference does not count."""


class _Ranked(Generic[K]):
    """Workers sorted by unique keys."""

    def __init__(self) -> None:
        self.keys: list[K] = []
        self.workers: dict[K, WorkerCapacity] = {}
        self._key_of: dict[WorkerCapacity, K] = {}

    def put(self, worker: WorkerCapacity, key: K) -> None:
        before = self._key_of.get(worker)
        if before == key:
            return
        if before is not None:
            del self.workers[before], self.keys[bisect_left(self.keys, before)]
        insort(self.keys, key)
        self.workers[key] = worker
        self._key_of[worker] = key


class WorkerOrder:
    """Workers that may be given instances, the least loaded first; they add themselves to `changed`."""

    def __init__(self) -> None:
        self.changed: set[WorkerCapacity] = set()
        self._by_load: defaultdict[tuple[str, bool], _Ranked[LoadKey]] = defaultdict(_Ranked)
        self._by_gap: defaultdict[str, _Ranked[tuple[int, str]]] = defaultdict(_Ranked)

    def least_loaded(
        self, candidate: RunnableVariant, *, with_slots: bool = False, calm: bool = False
    ) -> WorkerCapacity | None:
        """Return the worker to place the candidate on, so that instances spread; None if it fits nowhere.

        `with_slots` requires slots that the load leaves free, `calm` an undisturbed worker. Disturbed workers come
        last.
        """
        self._sort()
        gaps = self._by_gap[candidate.variant.hardware].keys
        if not gaps or gaps[-1][0] < candidate.memory_bytes:
            return None
        for worker in self._sorted(candidate.variant.hardware, with_slots=with_slots, calm=calm):
            if worker.could_take(candidate) and worker.fits(candidate):
                return worker
        return None

    def all_of(self, hardware: str) -> Iterator[WorkerCapacity]:
        """Return the workers of a hardware, the least loaded first."""
        self._sort()
        return self._sorted(hardware)

    def _sorted(self, hardware: str, *, with_slots: bool = False, calm: bool = False) -> Iterator[WorkerCapacity]:
        for disturbed in (False,) if calm else (False, True):
            ranked = self._by_load[hardware, disturbed]
            for key in ranked.keys:
                worker = ranked.workers[key]
                if with_slots and worker.free_slots <= SLACK:
                    break
                yield worker

    def _sort(self) -> None:
        for worker in self.changed:
            if worker.schedulable:
                hardware = worker.worker.hardware
                self._by_load[hardware, worker.disturbed].put(worker, worker.sort_key())
                has_place = len(worker.hosted) < worker.max_instances
                self._by_gap[hardware].put(worker, (worker.free_bytes if has_place else -1, worker.name))
        self.changed.clear()
