"""Free memory and free slots of each live worker while a plan is made, and the order of workers by load.

Workers are kept sorted, so that the least loaded one with room is found without a scan. Workers of each hardware are in
two lists, undisturbed and disturbed, and in a third one by free memory. A candidate larger than any free memory is
refused after one lookup. Changed workers are sorted again at the next query.

The load of each variant is distributed among its hosts as selectors would: they send each query to the replica that
answers soonest. So replicas fill equally up to their limits: the free slots of the worker, or one batch at a time where
the runtime is not concurrent. Variants with the fewest replicas are distributed first. All loads are distributed once.
When a variant then gains or loses a replica, only its own load is distributed again, over the capacity that the others
leave. So the cost of a plan grows with its number of changes.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Generic, TypeVar

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ScalingLimits
from schemas.rows.cluster import WorkerRow

LoadKey = tuple[float, float, float, str]
"""Sorts the least loaded worker first."""


class WorkerCapacity:
    """Capacity of one live worker while a plan is made. Changes add it to `changed`, see `WorkerOrder`."""

    def __init__(
        self,
        worker: WorkerRow,
        limits: ScalingLimits,
        changed: "set[WorkerCapacity]",
        *,
        number: int = 0,
        schedulable: bool = True,
        disturbed: bool = False,
        failed: frozenset[str] = frozenset(),
    ) -> None:
        self.worker = worker
        self.number = number
        """Position among the workers of the snapshot."""
        self.memory_limit = int(worker.memory_bytes * limits.memory_share)
        self.max_instances = worker.slots * limits.instances_per_slot
        self.schedulable = schedulable and not worker.draining
        """True if the worker may be given instances."""
        self.disturbed = disturbed
        self.failed = failed
        """Variants that it failed to load."""
        self.busy = 0.0
        """Number of slots that the load is expected to take."""
        self.hosted: dict[str, RunnableVariant] = {}
        """Hosted variants, by name. Read-only for others."""
        self.free_bytes = self.memory_limit
        """Bytes of free memory; negative if the worker is overcommitted."""
        self._changed = changed

    @property
    def name(self) -> str:
        """Name of the worker."""
        return self.worker.name

    @property
    def free_slots(self) -> float:
        """Number of slots that the load does not take."""
        return self.worker.slots - self.busy

    def slots_for(self, name: str, more: float = 0.0) -> float:
        """Return the number of slots that a hosted instance may fill, if `more` slots were free."""
        free, hosted = max(self.free_slots + more, 0.0), self.hosted[name]
        width = hosted.width(self.worker.threads)
        return free if hosted.concurrent and width == 1 else min(free, width)

    @property
    def overcommitted(self) -> bool:
        """True if an instance must leave, e.g. because the worker returned with less memory."""
        return self.free_bytes < 0 or len(self.hosted) > self.max_instances

    def host(self, candidate: RunnableVariant) -> None:
        """Add the candidate to the worker."""
        self.hosted[candidate.name] = candidate
        self.free_bytes -= candidate.memory_bytes
        self._changed.add(self)

    def release(self, name: str) -> RunnableVariant | None:
        """Remove a variant; return it, or None if it was not hosted."""
        candidate = self.hosted.pop(name, None)
        if candidate is not None:
            self.free_bytes += candidate.memory_bytes
            self._changed.add(self)
        return candidate

    def load(self, slots: float) -> None:
        """Add slots of load; negative to remove some."""
        self.busy += slots
        self._changed.add(self)

    def can_run(self, candidate: RunnableVariant) -> bool:
        """Return true if the worker has the hardware, runtime and cores, and did not fail to load the candidate."""
        variant = candidate.variant
        fits = variant.hardware == self.worker.hardware and variant.runtime in self.worker.runtimes
        fits = fits and candidate.width(self.worker.threads) <= self.worker.slots
        return fits and variant.name not in self.failed

    def could_take(self, candidate: RunnableVariant) -> bool:
        """Return true if the worker would take the candidate, given enough room."""
        return self.schedulable and candidate.name not in self.hosted and self.can_run(candidate)

    def fits(self, candidate: RunnableVariant) -> bool:
        """Return true if there is room now."""
        return self.free_bytes >= candidate.memory_bytes and len(self.hosted) < self.max_instances

    def fits_alone(self, candidate: RunnableVariant) -> bool:
        """Return true if the candidate would fit on the empty worker."""
        return self.memory_limit >= candidate.memory_bytes

    def sort_key(self) -> LoadKey:
        """Return the key that sorts the least loaded worker first."""
        used = 1 - self.free_bytes / self.memory_limit if self.memory_limit else 1.0
        busy = round(self.busy - self.worker.slots, 3) if self.busy else -float(self.worker.slots)
        return busy, len(self.hosted) / self.worker.slots, used, self.name


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

    def least_loaded(self, candidate: RunnableVariant, *, with_slots: bool = False) -> WorkerCapacity | None:
        """Return the worker to place the candidate on, so that instances spread; None if it fits nowhere.

        `with_slots` requires slots that the load leaves free. Disturbed workers come last.
        """
        self._sort()
        gaps = self._by_gap[candidate.variant.hardware].keys
        if not gaps or gaps[-1][0] < candidate.memory_bytes:
            return None
        for worker in self._sorted(candidate.variant.hardware, with_slots=with_slots):
            if worker.could_take(candidate) and worker.fits(candidate):
                return worker
        return None

    def all_of(self, hardware: str) -> Iterator[WorkerCapacity]:
        """Return the workers of a hardware, the least loaded first."""
        self._sort()
        return self._sorted(hardware)

    def _sorted(self, hardware: str, *, with_slots: bool = False) -> Iterator[WorkerCapacity]:
        for disturbed in (False, True):
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


class LoadShares:
    """Slots that each variant's load takes on each worker, and the unserved rest."""

    def __init__(self, load_slots: Mapping[str, float], capacities: Iterable[WorkerCapacity]) -> None:
        self._load_slots = load_slots
        self._parts: dict[str, list[tuple[WorkerCapacity, float]]] = {}
        self.unserved: dict[str, float] = {}
        """Slots of load that no host has room for, by variant."""
        hosts: dict[str, list[WorkerCapacity]] = {name: [] for name in load_slots}
        for capacity in capacities:
            capacity.load(-capacity.busy)
            for name in capacity.hosted:
                if name in hosts:
                    hosts[name].append(capacity)
        for name in sorted(load_slots, key=lambda name: (len(hosts[name]), name)):
            self.share(name, hosts[name])

    def add(self, name: str, host: WorkerCapacity) -> None:
        """Give the unserved rest of a variant's load to one more host. Call `share` after all hosts are added."""
        left = self.unserved.get(name, 0.0)
        part = min(host.slots_for(name), left)
        if part > 0.0:
            host.load(part)
            self._parts[name].append((host, part))
            self.unserved[name] = left - part

    def unserved_without(self, name: str, host: WorkerCapacity) -> float:
        """Return the slots of a variant's load that would be unserved without this host."""
        load = self._load_slots.get(name, 0.0)
        room = sum(h.slots_for(name, part) for h, part in self._parts.get(name, ()) if h is not host)
        return max(load - room, 0.0)

    def share(self, name: str, hosts: Iterable[WorkerCapacity]) -> None:
        """Distribute the load of one variant among its hosts."""
        for capacity, part in self._parts.pop(name, ()):
            capacity.load(-part)
        left = self._load_slots.get(name, 0.0)
        if left <= 0.0:
            return
        free = sorted((capacity.slots_for(name), capacity.name, capacity) for capacity in hosts)
        parts = self._parts[name] = []
        for index, (free_slots, _, capacity) in enumerate(free):
            part = min(free_slots, left / (len(free) - index))
            capacity.load(part)
            parts.append((capacity, part))
            left -= part
        self.unserved[name] = left
