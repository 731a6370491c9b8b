"""Counts the memory and the slots of each live worker that are left as instances are placed."""

from collections.abc import Iterable, Mapping

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ScalingLimits
from schemas.rows.placement import WorkerRow


class WorkerCapacity:
    """Capacity of one live worker while a plan is made."""

    def __init__(self, worker: WorkerRow, limits: ScalingLimits, *, disturbed: bool = False) -> None:
        self.worker = worker
        self.memory_limit = int(worker.memory_bytes * limits.memory_share)
        self.max_instances = worker.slots * limits.instances_per_slot
        self.schedulable = not worker.draining
        """Whether the worker may be given something new."""
        self.disturbed = disturbed
        self.busy = 0.0
        """Number of slots that the load is expected to take."""
        self.hosted: dict[str, RunnableVariant] = {}

    @property
    def name(self) -> str:
        """Name of the worker."""
        return self.worker.name

    @property
    def free_bytes(self) -> int:
        """Bytes of memory left; negative when what is there is too much."""
        return self.memory_limit - sum(candidate.memory_bytes for candidate in self.hosted.values())

    @property
    def overcommitted(self) -> bool:
        """Whether something must leave, e.g. since the worker came back with less memory."""
        return self.free_bytes < 0 or len(self.hosted) > self.max_instances

    def can_run(self, candidate: RunnableVariant) -> bool:
        """Whether the worker has the hardware and the runtime."""
        variant = candidate.variant
        return variant.hardware == self.worker.hardware and variant.runtime in self.worker.runtimes

    def could_take(self, candidate: RunnableVariant) -> bool:
        """Whether the worker would take the candidate if there were room."""
        return self.schedulable and candidate.name not in self.hosted and self.can_run(candidate)

    def fits(self, candidate: RunnableVariant) -> bool:
        """Whether there is room now."""
        return self.free_bytes >= candidate.memory_bytes and len(self.hosted) < self.max_instances

    def fits_alone(self, candidate: RunnableVariant) -> bool:
        """Whether there would be room if nothing else were there."""
        return self.memory_limit >= candidate.memory_bytes

    def sort_key(self) -> tuple[bool, float, float, float, str]:
        """Key that sorts the least loaded worker first, but those that are disturbed last."""
        used = 1 - self.free_bytes / self.memory_limit if self.memory_limit else 1.0
        busy = round(self.busy - self.worker.slots, 3) if self.busy else -float(self.worker.slots)
        return self.disturbed, busy, len(self.hosted) / self.worker.slots, used, self.name


def least_loaded(capacities: Iterable[WorkerCapacity], candidate: RunnableVariant) -> WorkerCapacity | None:
    """Worker to place the candidate on, so that instances spread; None if it fits nowhere."""
    fitting = [capacity for capacity in capacities if capacity.could_take(candidate) and capacity.fits(candidate)]
    return min(fitting, key=WorkerCapacity.sort_key, default=None)


def distribute(load_slots: Mapping[str, float], capacities: Iterable[WorkerCapacity]) -> dict[str, float]:
    """Share the slots that each variant takes among the workers that host it; returns those that are left, by variant.

    Selectors send each query to the replica that answers soonest, which fills them alike up to what they can do: one
    slot each, and no more than the worker has. Those with the fewest replicas choose first.
    """
    hosts: dict[str, list[WorkerCapacity]] = {name: [] for name in load_slots}
    for capacity in capacities:
        capacity.busy = 0.0
        for name in capacity.hosted:
            if name in hosts:
                hosts[name].append(capacity)
    return {
        name: _distribute_evenly(load_slots[name], hosts[name])
        for name in sorted(load_slots, key=lambda name: (len(hosts[name]), name))
    }


def _distribute_evenly(load_slots: float, hosts: list[WorkerCapacity]) -> float:
    left = load_slots
    free = sorted(
        (min(1.0, max(capacity.worker.slots - capacity.busy, 0.0)), capacity.name, capacity) for capacity in hosts
    )
    for index, (free_slots, _, capacity) in enumerate(free):
        part = min(free_slots, left / (len(free) - index))
        capacity.busy += part
        left -= part
    return left
