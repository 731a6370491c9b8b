"""Rows of the cluster: workers, their instances, partition leases, and the wanted scale with its changes."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from schemas.defaults import LEASE_TTL_S
from schemas.status import InstanceState


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """Worker that has registered itself."""

    name: str
    hardware: str
    device: str
    host: str
    home: str = ""
    """Data folder of the process, `<name>:<path>`; see `process.home`."""
    slots: int
    threads: int
    """Threads per slot."""
    memory_bytes: int
    price_per_hour: float
    runtimes: tuple[str, ...]
    """Runtimes available on the worker."""
    builds: bool = False
    """True if the worker executes steps of registrations."""
    lease_ttl_s: float = LEASE_TTL_S
    """Seconds without a heartbeat after which its partitions are free."""
    epoch: int
    heartbeat_at: datetime
    alive: bool = True
    """True if the heartbeat is recent by the database's clock."""
    draining: bool = False
    """True if the worker shall end: it gets no new instances, and its instances move to other workers."""
    draining_s: float = 0.0
    """Seconds since draining began."""

    @property
    def state(self) -> str:
        """`alive`, `draining`, or `silent`: its last heartbeat is too old."""
        return "silent" if not self.alive else "draining" if self.draining else "alive"


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
    """Right of a worker to serve a partition of a variant's topic, while its heartbeats last.

    Each change of owner increments the epoch.
    """

    variant: str
    partition: int
    worker: str
    epoch: int


class DuePartition(msgspec.Struct, frozen=True, kw_only=True):
    """Partition that its owner is to release now."""

    partition: int
    requested: bool
    """True if another worker requests it; false if no living worker shall take it."""


class DecisionKind(StrEnum):
    """Kind of object that a decision changes."""

    INSTANCE = "instance"
    WORKER = "worker"
    CONTROL = "control"
    """A person pinned, unpinned, paused or resumed."""


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """Scaling decision with its inputs. A field that does not apply is empty."""

    at: datetime
    kind: DecisionKind = DecisionKind.INSTANCE
    action: str
    variant: str = ""
    worker: str = ""
    hardware: str = ""
    reason: str
    policy: str = ""
    """Optimizer that decided, `greedy` or `milp`; empty for an action of a person or a launcher."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Inputs of this change."""
    explanation: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Inputs of the whole plan that the change is part of."""

    @property
    def subject(self) -> str:
        """Variant, worker or hardware type that it changes; empty: none."""
        return self.variant or self.worker or self.hardware


class PinKind(StrEnum):
    """Kind of object whose number can be pinned."""

    TASK = "task"
    VARIANT = "variant"
    HARDWARE = "hardware"


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that a person has set for the instances of a task or variant, or for the workers of a hardware type."""

    kind: PinKind
    name: str
    minimum: int | None = None
    maximum: int | None = None
    pinned_by: str = ""
    pinned_at: datetime | None = None

    @property
    def bounds(self) -> str:
        """The bounds as text."""
        said = (("least", self.minimum), ("most", self.maximum))
        return ", ".join(f"at {word} {count}" for word, count in said if count is not None)


class ScaleControl(msgspec.Struct, frozen=True, kw_only=True):
    """State of the pause of scaling, and its last change."""

    paused: bool
    changed_by: str
    changed_at: datetime


class WantedWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """Number of workers of a hardware type that shall run."""

    hardware: str
    count: int
    """Workers that shall run, not counting draining workers."""
    reason: str
    age_s: float = 0.0
    """Seconds since the row was written."""


class ClusterRows(msgspec.Struct, frozen=True, kw_only=True):
    """Wanted scale with its pins and pause, and actual workers and instances."""

    control: ScaleControl
    wanted: list[WantedWorkers]
    workers: list[WorkerRow]
    instances: list[InstanceRow]
    pins: list[Pin]
