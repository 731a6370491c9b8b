"""The replicas of a variant, kept so that a good one is found without walking all.

Up to `FEW` are simply walked. Of more, two are drawn from those that are idle, which is as good as a walk while there
are any. Else two are drawn from all (the power of two choices), and the best of them and of the one that is free first
is taken; where not even that one is in time, none is. To draw serves many selectors: what each took for the very best
would be flooded by all of them between two statuses.

An instance becomes idle when a status says so, or when what was sent to it is worked off by its own rate.
"""

from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Final

from selector.entities import Instance
from selector.indexed_set import IndexedSet

if TYPE_CHECKING:
    from schemas.latency import LatencyModel

FEW: Final = 8
"""Replicas that are walked; of more, some are drawn."""
_SETTLED_AT_ONCE: Final = 8
_SPREAD: Final = 0x9E3779B1
_32_BITS: Final = 0xFFFFFFFF


class ReplicaGroup:
    """Replicas in the same state of health."""

    __slots__ = ("_busy", "_serial", "idle", "members")

    def __init__(self) -> None:
        self.members: IndexedSet[Instance] = IndexedSet()
        self.idle: IndexedSet[Instance] = IndexedSet()
        """Members with nothing to do, as far as known."""
        self._busy: list[tuple[float, int, Instance]] = []
        """Heap of the others by `free_at`; entries that no longer hold stay until they come up."""
        self._serial = count().__next__

    def put(self, instance: Instance, now: float) -> None:
        """Add a member, or take up that its `free_at` has changed."""
        self.members.add(instance)
        if instance.free_at <= now and not instance.has_background_work:
            self.idle.add(instance)
        else:
            self.idle.discard(instance)
            heappush(self._busy, (instance.free_at, self._serial(), instance))
        self._settle(now)

    def discard(self, instance: Instance) -> None:
        """Remove a member, if it is one."""
        self.members.discard(instance)
        self.idle.discard(instance)

    def soonest(self) -> Instance | None:
        """The member that is free first, if none is idle; None if that is not known."""
        return self._busy[0][2] if self._busy and self._holds(self._busy[0]) else None

    def _settle(self, now: float) -> None:
        """Move some of those that have worked off what they had to the idle, and forget entries that do not hold."""
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


class Replicas:
    """All replicas of a variant.

    What is derived of them (their state of health, the latencies among them) is taken up by `put` alone, whatever of a
    replica has changed: a status, a correction of its profile, or the profile itself.
    """

    __slots__ = ("_model_of", "_models", "healthy", "overloaded")

    def __init__(self) -> None:
        self.healthy = ReplicaGroup()
        self.overloaded = ReplicaGroup()
        self._model_of: dict[Instance, LatencyModel] = {}
        """The latency of each replica as it is counted."""
        self._models: Counter[LatencyModel] = Counter()

    def __len__(self) -> int:
        return len(self._model_of)

    def __iter__(self) -> Iterator[Instance]:
        return chain(self.healthy.members, self.overloaded.members)

    def __contains__(self, instance: Instance) -> bool:
        return instance in self._model_of

    def first(self) -> Instance:
        """Some replica, a healthy one if there is one; there must be any."""
        return next(iter(self))

    def put(self, instance: Instance, now: float) -> bool:
        """Have a replica among them as it is now; returns whether `promised_s` may change.

        It may when a latency is the first or the last of its kind.
        """
        counted, model = self._model_of.get(instance), instance.model
        changed = False
        if counted is not model:
            changed = counted is not None and self._uncount(counted)
            self._model_of[instance] = model
            self._models[model] += 1
            changed |= self._models[model] == 1
        self._sort(instance, now)
        return changed

    def _sort(self, instance: Instance, now: float) -> None:
        """Have a replica where it belongs by its health and by its work."""
        if instance.healthy:
            group, other = self.healthy, self.overloaded
        else:
            group, other = self.overloaded, self.healthy
        other.discard(instance)
        instance.free_at = now + instance.work_s(now)
        group.put(instance, now)

    def give_work(self, instance: Instance, now: float) -> None:
        """Take up that a replica, if it is one, was given work; few are walked, in no order."""
        if len(self) > FEW and instance in self:
            self._sort(instance, now)

    def remove(self, instance: Instance) -> bool:
        """Remove a replica; returns whether it was the last that is as fast, or the last of all."""
        self.healthy.discard(instance)
        self.overloaded.discard(instance)
        return self._uncount(self._model_of.pop(instance))

    def _uncount(self, model: "LatencyModel") -> bool:
        self._models[model] -= 1
        if self._models[model]:
            return False
        del self._models[model]
        return True

    def promised_s(self, batch: int) -> float:
        """Seconds within which the fastest computes `batch` inputs alone."""
        return min(model.query_s(batch) for model in self._models)


NOBODY: Final = Replicas()
"""Replicas of what is not loaded."""


def some_of(replicas: Replicas, seed: int) -> list[Instance]:
    """The replicas where there are few, else some `FEW` of the healthy ones, drawn by 32 bits of `seed`."""
    members = replicas.healthy.members.items
    if len(replicas) <= FEW or not members:
        return list(islice(replicas, FEW))
    step = len(members) // FEW or 1
    begin = seed * len(members) >> 32
    return [members[(begin + number * step) % len(members)] for number in range(min(FEW, len(members)))]


def two_of(instances: list[Instance], seed: int) -> tuple[Instance, Instance]:
    """Draw two instances by 32 bits of `seed`; they may be the same one."""
    size = len(instances)
    return instances[seed * size >> 32], instances[(seed * _SPREAD & _32_BITS) * size >> 32]
