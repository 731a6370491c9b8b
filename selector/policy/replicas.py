"""Replicas of a variant, organized so that a good one is found without examining all.

Up to `FEW` replicas are all examined. Of more, two are drawn from the idle ones, which is as good as a full search
while there are any. Otherwise two are drawn from all (the power of two choices), and the best of them and of the one
that is free first is taken; if not even that one is in time and no work is overtaken there, none is. Random draws suit
several selectors: if all chose the single best replica, they would flood it between two statuses.

An instance becomes idle by a status, or when its known work is finished at its own rate.

Selectors that share a task prefer different replicas, each its aperture (deterministic aperture of Twitter's Finagle):
the replicas lie on a ring in order of their workers' names, and each partition of the task's topic has the same share
of the ring. Nearly all queries of these replicas come from one selector, which so knows their queues between statuses.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from selector.policy.entities import Instance

if TYPE_CHECKING:
    from schemas.latency import LatencyModel


FEW: Final = 8
"""Number of replicas up to which all are examined; of more, some are drawn."""
_SETTLED_AT_ONCE: Final = 8
_SPREAD: Final = 0x9E3779B1
_32_BITS: Final = 0xFFFFFFFF
T = TypeVar("T")


class IndexedSet(Generic[T]):
    """Set with random access: adding, removing and reading the n-th item take constant time."""

    __slots__ = ("items", "places")

    def __init__(self) -> None:
        self.items: list[T] = []
        """The items in no particular order, read-only for others; a removed one's place goes to the last one."""
        self.places: dict[T, int] = {}
        """Place of each item in the list, read-only for others."""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __contains__(self, item: T) -> bool:
        return item in self.places

    def add(self, item: T) -> None:
        """Add an item, if it is absent."""
        if item not in self.places:
            self.places[item] = len(self.items)
            self.items.append(item)

    def discard(self, item: T) -> None:
        """Remove an item, if it is present."""
        place = self.places.pop(item, None)
        if place is None:
            return
        last = self.items.pop()
        if last is not item:
            self.items[place] = last
            self.places[last] = place


class ReplicaGroup:
    """Replicas in order of their known work."""

    __slots__ = ("_busy", "_serial", "idle", "members")

    def __init__(self) -> None:
        self.members: IndexedSet[Instance] = IndexedSet()
        self.idle: IndexedSet[Instance] = IndexedSet()
        """Members without known work."""
        self._busy: list[tuple[float, int, Instance]] = []
        """Heap of the other members by `free_at`; outdated entries stay until they reach the top."""
        self._serial = count().__next__

    def put(self, instance: Instance, now: float) -> None:
        """Add a member, or update its `free_at`."""
        if instance not in self.members.places:
            self.members.add(instance)
        if instance.free_at > now or instance.has_background_work:
            self.idle.discard(instance)
            heappush(self._busy, (instance.free_at, self._serial(), instance))
        elif instance not in self.idle.places:
            self.idle.add(instance)
        if self._busy:
            self._settle(now)

    def discard(self, instance: Instance) -> None:
        """Remove a member, if it is present."""
        if instance in self.members.places:
            self.members.discard(instance)
            self.idle.discard(instance)

    def soonest(self) -> Instance | None:
        """Return the member that is free first, if none is idle; None if that is not known."""
        return self._busy[0][2] if self._busy and self._holds(self._busy[0]) else None

    def _settle(self, now: float) -> None:
        """Move some members with finished work to the idle ones, and drop outdated entries."""
        busy = self._busy
        if len(busy) > 4 * len(self.members) + 64:
            busy[:] = (entry for entry in busy if self._holds(entry))
            heapify(busy)
        for _ in range(_SETTLED_AT_ONCE):
            if not busy:
                return
            if self._holds(busy[0]):
                if busy[0][0] > now:
                    return
                if not busy[0][2].has_background_work:
                    self.idle.add(busy[0][2])
            heappop(busy)

    def _holds(self, entry: tuple[float, int, Instance]) -> bool:
        free_at, _, instance = entry
        return free_at == instance.free_at and instance in self.members and instance not in self.idle


class TaskShare(NamedTuple):
    """Partitions of a task's topic that a selector reads."""

    partitions: frozenset[int] = frozenset({0})
    of: int = 1
    """Number of all partitions of the topic."""

    @property
    def is_whole(self) -> bool:
        """True if no other selector reads the task; also if this one reads nothing of it."""
        return len(self.partitions) in (0, self.of)

    def aperture(self, ring: Sequence[T]) -> list[T]:
        """Return the items of a ring of which a part belongs to these partitions: at least one, if there is any."""
        size, of = len(ring), self.of
        places = {
            place for number in self.partitions for place in range(number * size // of, -(-(number + 1) * size // of))
        }
        return [ring[place] for place in sorted(places)]


WHOLE_TASK: Final = TaskShare()


def _worker_name(instance: Instance) -> str:
    return instance.worker.name


class Replicas:
    """All replicas of a variant.

    Derived data (order, latencies) is updated by `put` alone. Call it after any change of a replica: a status, a
    correction of its profile, or a new profile.
    """

    __slots__ = ("_aperture", "_is_current", "_models", "_share", "barred_until", "group", "is_shared", "model_of")

    def __init__(self, share: TaskShare = WHOLE_TASK) -> None:
        self.group = ReplicaGroup()
        self._share = share
        self.is_shared = not share.is_whole
        """True if other selectors read the task, too."""
        self._aperture = ReplicaGroup()
        self._is_current = False
        """False if the aperture may have changed; it is formed again when it is used."""
        self.barred_until = 0.0
        """Time until which no preferred replica takes upgrades; news of one of them ends it."""
        self.model_of: dict[Instance, LatencyModel] = {}
        """Latency model under which each replica is counted. Read-only for others."""
        self._models: Counter[LatencyModel] = Counter()

    def __len__(self) -> int:
        return len(self.model_of)

    def __iter__(self) -> Iterator[Instance]:
        return iter(self.group.members)

    def __contains__(self, instance: Instance) -> bool:
        return instance in self.model_of

    def first(self) -> Instance:
        """Return any replica; there must be at least one."""
        return next(iter(self))

    def use_share(self, share: TaskShare) -> None:
        """Set the selector's share of the task."""
        self._share, self._aperture, self._is_current, self.barred_until = share, ReplicaGroup(), False, 0.0
        self.is_shared = not share.is_whole

    @property
    def senders(self) -> float:
        """Number of selectors that prefer one replica: above 1 where the replicas are fewer than the selectors."""
        if not self.is_shared:
            return 1.0
        return max(self._share.of / len(self._share.partitions) / max(len(self.model_of), 1), 1.0)

    def preferred(self, now: float) -> ReplicaGroup:
        """Return the aperture: all replicas if no other selector reads the task."""
        if not self.is_shared:
            return self.group
        if not self._is_current:
            self._aperture, self._is_current = ReplicaGroup(), True
            for instance in self._share.aperture(sorted(self.model_of, key=_worker_name)):
                self._aperture.put(instance, now)
        return self._aperture

    def put(self, instance: Instance, now: float) -> bool:
        """Add a replica or update it; return true if `promised_s` may change.

        It may change when a latency model is the first or the last of its kind.
        """
        counted, model = self.model_of.get(instance), instance.model
        changed, self.barred_until = False, 0.0
        if counted is None:
            self._is_current = False
        if counted is not model:
            changed = counted is not None and self._uncount(counted)
            self.model_of[instance] = model
            self._models[model] += 1
            changed |= self._models[model] == 1
        self._sort(instance, now)
        return changed

    def _sort(self, instance: Instance, now: float) -> None:
        self.group.put(instance, now)
        if instance in self._aperture.members:
            self._aperture.put(instance, now)

    def give_work(self, instance: Instance, now: float) -> None:
        """Update a replica that was given work, if it is one of these; small sets have no order to update."""
        if len(self.model_of) > FEW and instance in self.model_of:
            instance.free_at = now + instance.work_s(now)
            self._sort(instance, now)

    def remove(self, instance: Instance) -> bool:
        """Remove a replica; return true if it was the last one with its latency model."""
        self.group.discard(instance)
        self._is_current, self.barred_until = False, 0.0
        return self._uncount(self.model_of.pop(instance))

    def _uncount(self, model: "LatencyModel") -> bool:
        self._models[model] -= 1
        if self._models[model]:
            return False
        del self._models[model]
        return True

    def promised_s(self, batch: int) -> float:
        """Return the seconds within which the fastest replica computes `batch` inputs alone."""
        return min(model.query_s(batch) for model in self._models)

    @property
    def least_correction(self) -> float:
        """Correction of the profile at the fastest replica; 1 without replicas."""
        return min((model.correction for model in self._models), default=1.0)


NOBODY: Final = Replicas()
"""Replicas of a variant that is not loaded."""


def some_of(group: ReplicaGroup, seed: int) -> list[Instance]:
    """Return all replicas of a group if they are few, else `FEW` of them, drawn by 32 bits of `seed`."""
    members = group.members.items
    if len(members) <= FEW:
        return list(members)
    step = len(members) // FEW or 1
    begin = seed * len(members) >> 32
    return [members[(begin + number * step) % len(members)] for number in range(min(FEW, len(members)))]


def two_of(instances: list[Instance], seed: int) -> tuple[Instance, Instance]:
    """Draw two instances by 32 bits of `seed`; they may be the same one."""
    size = len(instances)
    return instances[seed * size >> 32], instances[(seed * _SPREAD & _32_BITS) * size >> 32]
