"""Distributes the load of each variant among the workers that host it, as selectors would.

Selectors send each query to the replica that answers soonest. So replicas fill equally up to their limits: the free
slots of the worker, or one batch at a time where the runtime is not concurrent. Variants with the fewest replicas are
distributed first.

All loads are distributed once. When a variant then gains or loses a replica, only its own load is distributed again,
over the capacity that the others leave. So the cost of a plan grows with its number of changes.
"""

from collections.abc import Iterable, Mapping

from autoscaler.decide.worker_capacity import WorkerCapacity


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
