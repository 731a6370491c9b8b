"""Free memory and free slots of each live worker while a plan is made."""

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ScalingLimits
from schemas.rows.placement import WorkerRow

LoadKey = tuple[float, float, float, str]
"""Sorts the least loaded worker first."""


class WorkerCapacity:
    """Capacity of one live worker while a plan is made. Changes add it to `changed`, see `worker_order`."""

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
