"""Size of a worker and price of its cores: workers of a hardware have few kinds."""

from typing import NamedTuple, Self

from schemas.hardware import CorePrice, cores_of
from schemas.status import WorkerStatus


class WorkerSize(NamedTuple):
    """Size of a worker."""

    memory: int
    """Memory in bytes."""
    cores: int
    """Cores that one batch may use."""


class WorkerKind(NamedTuple):
    """Size of a worker and price of its cores."""

    room: WorkerSize
    core_price: CorePrice

    @classmethod
    def of(cls, status: WorkerStatus) -> Self:
        """Return the kind of the worker that sent the status."""
        slots = max(status.slots, 1)
        return cls(
            WorkerSize(status.memory_total, cores_of(status.hardware, slots, status.threads)),
            CorePrice.of(status.hardware, slots, status.threads, status.price_per_hour),
        )
