"""What fits where: the memory, the places and the slots of each live worker, counted down as instances are placed."""

from collections.abc import Iterable, Mapping

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ScalingLimits
from schemas.rows.placement import WorkerRow


class WorkerCapacity:
    """One live worker while a plan is made."""

    def __init__(self, worker: WorkerRow, limits: ScalingLimits, *, disturbed: bool = False) -> None:
        self.worker = worker
        self.memory_limit = int(worker.memory_bytes * limits.memory_share)
        self.places = worker.slots * limits.instances_per_slot
        self.open = not worker.draining
        """Whether it may be given something new."""
        self.disturbed = disturbed
        self.busy = 0.0
        """Slots that the load is expected to take."""
        self.hosted: dict[str, RunnableVariant] = {}

    @property
    def name(self) -> str:
        """Of the worker."""
        return self.worker.name

    @property
    def free_bytes(self) -> int:
        """Memory left; negative when what is there is too much."""
        return self.memory_limit - sum(candidate.memory_bytes for candidate in self.hosted.values())

    @property
    def overfull(self) -> bool:
        """Whether something must leave, e.g. since the worker came back with less memory."""
        return self.free_bytes < 0 or len(self.hosted) > self.places

    def can_run(self, candidate: RunnableVariant) -> bool:
        """Whether the worker has the hardware and the runtime."""
        variant = candidate.variant
        return variant.hardware == self.worker.hardware and variant.runtime in self.worker.runtimes

    def could_take(self, candidate: RunnableVariant) -> bool:
        """Whether it would have it if there were room."""
        return self.open and candidate.name not in self.hosted and self.can_run(candidate)

    def fits(self, candidate: RunnableVariant) -> bool:
        """Whether there is room now."""
        return self.free_bytes >= candidate.memory_bytes and len(self.hosted) < self.places

    def fits_alone(self, candidate: RunnableVariant) -> bool:
        """Whether there would be room if nothing else were there."""
        return self.memory_limit >= candidate.memory_bytes

    def load(self) -> tuple[bool, float, float, float, str]:
        """Sorts the emptiest worker first, but those that are disturbed last."""
        used = 1 - self.free_bytes / self.memory_limit if self.memory_limit else 1.0
        busy = round(self.busy - self.worker.slots, 3) if self.busy else -float(self.worker.slots)
        return self.disturbed, busy, len(self.hosted) / self.worker.slots, used, self.name


def emptiest(rooms: Iterable[WorkerCapacity], candidate: RunnableVariant) -> WorkerCapacity | None:
    """The worker to place the candidate on, so that instances spread; None if it fits nowhere."""
    fitting = [room for room in rooms if room.could_take(candidate) and room.fits(candidate)]
    return min(fitting, key=WorkerCapacity.load, default=None)


def spread(work: Mapping[str, float], rooms: Iterable[WorkerCapacity]) -> dict[str, float]:
    """Share the slots that each variant takes among the workers that host it; returns what found none, by variant.

    Selectors send each query to the replica that answers soonest, which fills them alike up to what they can do: one
    slot each, and no more than the worker has. Those with the fewest replicas choose first.
    """
    hosts: dict[str, list[WorkerCapacity]] = {name: [] for name in work}
    for room in rooms:
        room.busy = 0.0
        for name in room.hosted:
            if name in hosts:
                hosts[name].append(room)
    return {name: _pour(work[name], hosts[name]) for name in sorted(work, key=lambda name: (len(hosts[name]), name))}


def _pour(work: float, hosts: list[WorkerCapacity]) -> float:
    left = work
    free = sorted((min(1.0, max(room.worker.slots - room.busy, 0.0)), room.name, room) for room in hosts)
    for index, (room_left, _, room) in enumerate(free):
        part = min(room_left, left / (len(free) - index))
        room.busy += part
        left -= part
    return left
