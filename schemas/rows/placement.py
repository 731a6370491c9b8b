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
    home: str = ""
    """Data folder of the process, `<name>:<path>`; see `process.home_name`."""
    slots: int
    threads: int
    """Threads per slot."""
    memory_bytes: int
    price_per_hour: float
    runtimes: tuple[str, ...]
    """Runtimes available on the worker."""
    builds: bool = False
    """Whether it does steps of registrations."""
    epoch: int
    heartbeat_at: datetime
    alive: bool = True
    """Whether the heartbeat is recent, by the database's clock."""
    draining: bool = False
    """Whether the worker is to end: it gets nothing new, and what it hosts moves away."""
    draining_s: float = 0.0
    """Seconds since the worker was told to drain."""


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """An instance that is wanted: `worker` is to serve `partitions` of `variant`; and how far it is."""

    variant: str
    worker: str
    partitions: tuple[int, ...]
    max_batch: int
    state: InstanceState = InstanceState.INACTIVE
    """State that the worker reported last."""
    reason: str = ""
    """Why the instance is wanted, or why it failed."""
    updated_at: datetime | None = None


class CorrectionRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has seen over long of the profile of a variant."""

    variant: str
    worker: str
    factor: float
    """Times that batches take there of what the profile says."""
    since: datetime


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Right of a worker to serve a partition of a variant's topic. The epoch grows with every change of owner."""

    variant: str
    partition: int
    worker: str
    epoch: int
    expires_at: datetime
