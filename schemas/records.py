"""Row types: what Postgres keeps. Field names are column names; times are aware datetimes, durations seconds."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from schemas.latency import BatchLatency, is_noisy
from schemas.status import InstanceState


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One input or output of a task, in the terms of the Open Inference Protocol."""

    name: str
    datatype: str
    """OIP datatype, e.g. `FP32`, `INT64`, `BYTES`."""
    shape: tuple[int, ...]
    """-1 is variable; the first dimension is the batch and always -1."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What clients ask for: a signature that every variant of the task fulfils."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    partitions: int = 4
    created_at: datetime | None = None


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One trained model of a task."""

    name: str
    task: str
    source: str
    """SHA-256 of the registered model file."""
    source_format: str
    """`onnx` or `exported-program`."""
    created_at: datetime | None = None


class VariantState(StrEnum):
    """How far registration came; only a `ready` variant is ever chosen."""

    GENERATED = "generated"
    VERIFIED = "verified"
    READY = "ready"
    REFUSED = "refused"


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """An architecture made executable."""

    name: str
    architecture: str
    task: str
    runtime: str
    """Name of a runtime, e.g. `onnx`, `torch-eager`."""
    precision: str
    """e.g. `fp32`, `int8-dynamic`, `int8-static`."""
    hardware: str
    max_batch: int
    artifact: str
    """SHA-256 of the executable file."""
    state: VariantState
    reason: str = ""
    """Why it was refused."""
    partitions: int = 4
    """Partitions of its topic: the most replicas that can share the load."""
    created_at: datetime | None = None


class AccuracySource(StrEnum):
    """Measured here on labelled data, or only declared by who registered the model."""

    MEASURED = "measured"
    DECLARED = "declared"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a variant on its hardware."""

    variant: str
    device: str
    """The exact device, e.g. the CPU's model name."""
    threads: int
    """Threads the variant computed with; on an accelerator 1."""
    load_s: float
    memory_bytes: int
    """Peak growth of the process by loading and running the largest batch."""
    accuracy: float
    """0..1."""
    accuracy_source: AccuracySource
    samples: int
    """Labelled inputs behind a measured accuracy; 0 if declared."""
    latency: tuple[BatchLatency, ...]
    intercept_s: float
    slope_s: float
    """Least-squares line of p50 latency over batch: `intercept_s + slope_s * batch`."""
    fit_error: float
    """Root mean square of the line's relative error."""
    created_at: datetime | None = None

    @property
    def is_noisy(self) -> bool:
        """Whether the latencies should be measured anew: something else had the machine meanwhile."""
        return is_noisy(self.latency, self.fit_error)


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


class GroupHealth(StrEnum):
    """How a group gets on with a partition, in the manner of Burrow. The order is that of the tables' numbers."""

    UNKNOWN = "unknown"
    OK = "ok"
    LAGGING = "lagging"
    """It moves, but falls behind ever more."""
    STALLED = "stalled"
    """Records wait, somebody serves the partition, and nothing is committed."""
    STOPPED = "stopped"
    """Records wait, and nobody serves the partition."""
    REWOUND = "rewound"
    """It went back: somebody reset its offsets."""


class LagReading(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of lag, packed: the lists run along `places`, numbers from `place_ids`."""

    at: datetime
    whole: bool
    """Of every partition; else of those that are not as in the row before."""
    error: str = ""
    """Why nothing could be read."""
    places: list[int] = []
    end_offsets: list[int] = []
    """-1 is unknown."""
    committed: list[int] = []
    """-1: never, -2: unknown."""
    lags: list[int] = []
    """Records; -1 is unknown."""
    since_s: list[float] = []
    """When the oldest record not committed was written, seconds since the epoch; nan: there is none, or unknown."""
    healths: list[int] = []
    """Index of GroupHealth."""


class LagMinute(msgspec.Struct, frozen=True, kw_only=True):
    """A minute of readings, packed, of the places that were behind or moved."""

    at: datetime
    readings: int
    places: list[int]
    arrived: list[int]
    """Records written."""
    completed: list[int]
    """Records committed."""
    lag_max: list[int]
    lag_mean: list[float]
    lag_s_max: list[float]


class LagSample(msgspec.Struct, frozen=True, kw_only=True):
    """Lag of a consumer group on one partition. None is unknown, which is not zero."""

    at: datetime
    consumer_group: str
    topic: str
    partition: int
    end_offset: int | None
    committed: int | None
    lag: int | None
    """Records behind the end."""
    lag_s: float | None
    """Seconds since the oldest record not yet committed was written."""
    health: GroupHealth


class LoadSample(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and answered of one needs class between two readings; see `schemas.load`."""

    at: datetime
    task: str
    target: str | None
    min_accuracy: float
    latency_ms: float | None
    offline: bool
    queries: int
    inputs: int
    refused: int
    """Answered by the selector."""
    upgraded: int
    answered: int
    """Queries answered by workers, errors included, whenever they were asked."""
    late: int
    failed: int


class InstanceSample(msgspec.Struct, frozen=True, kw_only=True):
    """An instance at a reading, and what it did since the one before."""

    at: datetime
    variant: str
    worker: str
    state: InstanceState
    queued: int
    batch_size: float
    batch_s: float
    slowdown: float
    """Measured over profiled latency."""
    answered: int
    inputs: int
    late: int
    expired: int


class WorkerSample(msgspec.Struct, frozen=True, kw_only=True):
    """A worker at a reading."""

    at: datetime
    worker: str
    hardware: str
    slots: int
    utilisation: float
    """Share of its slots' time spent computing in the last seconds."""
    memory_used: int
    memory_total: int


class DecisionKind(StrEnum):
    """What a decision changes."""

    INSTANCE = "instance"
    WORKER = "worker"
    CONTROL = "control"
    """A person pinned, unpinned, paused or resumed."""


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A change of scale, with what it was decided from. What does not apply is empty."""

    at: datetime
    kind: DecisionKind = DecisionKind.INSTANCE
    action: str
    variant: str = ""
    worker: str = ""
    hardware: str = ""
    reason: str
    policy: str = ""
    """What decided: `greedy` or `milp`; empty for what a person or a launcher did."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Of this change."""
    explanation: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Of the whole plan that it is part of."""


class PinKind(StrEnum):
    """What a person may bound."""

    TASK = "task"
    VARIANT = "variant"
    HARDWARE = "hardware"


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that a person set: of instances of a task or a variant, or of workers of a hardware."""

    kind: PinKind
    name: str
    least: int | None = None
    most: int | None = None
    pinned_by: str = ""
    pinned_at: datetime | None = None


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a person holds the scale as it is."""

    paused: bool
    changed_by: str
    changed_at: datetime


class WantedWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers of a hardware should run."""

    hardware: str
    count: int
    """Those that drain are not counted."""
    reason: str
    age_s: float = 0.0
    """Seconds since that was written."""
