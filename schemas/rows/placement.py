"""Rows of the placement: workers, the instances assigned to them, and partition leases."""

from datetime import datetime

import msgspec

from schemas.status import InstanceState


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """Worker that has registered itself."""

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
    """True if the worker executes steps of registrations."""
    epoch: int
    heartbeat_at: datetime
    alive: bool = True
    """True if the heartbeat is recent by the database's clock."""
    draining: bool = False
    """True if the worker shall end: it gets no new instances, and its instances move to other workers."""
    draining_s: float = 0.0
    """Seconds since draining began."""


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """Wanted instance, by which `worker` shall serve `partitions` of `variant`, with its reported state."""

    variant: str
    worker: str
    partitions: tuple[int, ...]
    max_batch: int
    state: InstanceState = InstanceState.INACTIVE
    """State that the worker reported last."""
    reason: str = ""
    """Reason why the instance is wanted, or why it failed."""
    updated_at: datetime | None = None


class CorrectionRow(msgspec.Struct, frozen=True, kw_only=True):
    """Correction of a variant's profile that a worker has observed in long-term operation."""

    variant: str
    worker: str
    factor: float
    """Ratio of the observed batch time to the profiled batch time."""
    since: datetime


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Right of a worker to serve a partition of a variant's topic. Each change of owner increments the epoch."""

    variant: str
    partition: int
    worker: str
    epoch: int
    expires_at: datetime
