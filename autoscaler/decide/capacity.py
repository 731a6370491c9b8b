"""What fits where: the memory and the slots of each live worker, counted down as instances are placed."""

from collections.abc import Iterable

from autoscaler.decide.pareto import Candidate
from autoscaler.decide.situation import Limits
from schemas.records import WorkerRow


class Room:
    """One live worker while a plan is made."""

    def __init__(self, worker: WorkerRow, limits: Limits) -> None:
        self.worker = worker
        self.memory_limit = int(worker.memory_bytes * limits.memory_share)
        self.places = worker.slots * limits.instances_per_slot
        self.hosted: dict[str, Candidate] = {}

    @property
    def free_bytes(self) -> int:
        """Memory left; negative when what is there is too much."""
        return self.memory_limit - sum(candidate.memory_bytes for candidate in self.hosted.values())

    @property
    def overfull(self) -> bool:
        """Whether something must leave, e.g. since the worker came back with less memory."""
        return self.free_bytes < 0 or len(self.hosted) > self.places

    def can_run(self, candidate: Candidate) -> bool:
        """Whether the worker has the hardware and the runtime."""
        variant = candidate.variant
        return variant.hardware == self.worker.hardware and variant.runtime in self.worker.runtimes

    def fits(self, candidate: Candidate) -> bool:
        """Whether there is room now."""
        return self.free_bytes >= candidate.memory_bytes and len(self.hosted) < self.places

    def fits_alone(self, candidate: Candidate) -> bool:
        """Whether there would be room if nothing else were there."""
        return self.memory_limit >= candidate.memory_bytes

    def load(self) -> tuple[float, float, str]:
        """Sorts the emptiest worker first."""
        used = 1 - self.free_bytes / self.memory_limit if self.memory_limit else 1.0
        return len(self.hosted) / self.worker.slots, used, self.worker.name


def emptiest(rooms: Iterable[Room], candidate: Candidate) -> Room | None:
    """The worker to place the candidate on, so that instances spread; None if it fits nowhere."""
    fitting = [
        room for room in rooms if candidate.name not in room.hosted and room.can_run(candidate) and room.fits(candidate)
    ]
    return min(fitting, key=Room.load, default=None)
