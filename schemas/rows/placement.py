"""Rows of what serves: workers, the instances wanted on them, and leases of partitions."""

from datetime import datetime

import msgspec

from schemas.status import InstanceState


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that registered itself."""

    name: str
    hardware: str
    device: str
    host: str
    slots: int
    threads: int
    """Threads per slot."""
    memory_bytes: int
    price_per_hour: float
    runtimes: tuple[str, ...]
    """Runtimes available there."""
    epoch: int
    heartbeat_at: datetime
    alive: bool = True
    """Whether the heartbeat is recent, by the database's clock."""
    draining: bool = False
    """It is to end: it gets nothing new, and what it hosts moves away."""
    draining_s: float = 0.0
    """Seconds since it was told to drain."""


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """The wish that `worker` serves `partitions` of `variant`, and how far it is."""

    variant: str
    worker: str
    partitions: tuple[int, ...]
    max_batch: int
    state: InstanceState = InstanceState.INACTIVE
    """As last reported by the worker."""
    reason: str = ""
    """Why the instance is wanted, or why it failed."""
    updated_at: datetime | None = None


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a partition of a variant topic. The epoch grows with every change of owner."""

    variant: str
    partition: int
    worker: str
    epoch: int
    expires_at: datetime
