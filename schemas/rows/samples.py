"""Rows of observations at a reading: lag, load, instances and workers."""

from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.status import InstanceState


class GroupHealth(StrEnum):
    """Health of a consumer group on a partition, modelled on Burrow."""

    # The order must match the numbers in the tables.
    UNKNOWN = "unknown"
    OK = "ok"
    LAGGING = "lagging"
    """The group commits, but its lag grows."""
    STALLED = "stalled"
    """Records wait, a consumer serves the partition, and no offset is committed."""
    STOPPED = "stopped"
    """Records wait, and no consumer serves the partition."""
    REWOUND = "rewound"
    """The committed offset moved backwards, e.g. after a reset."""
    LOST = "lost"
    """Records were deleted before the group committed them."""


class LagReading(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of lag, as arrays parallel to `group_partitions`, which contains ids of `group_partition_ids`."""

    at: datetime
    whole: bool
    """True if it includes every partition; false: only the partitions that changed since the previous row."""
    error: str = ""
    """Reason why the reading failed."""
    group_partitions: list[int] = []
    end_offsets: list[int] = []
    """End offset of each partition; -1: unknown."""
    committed: list[int] = []
    """Committed offset; -1: never committed, -2: unknown."""
    lags: list[int] = []
    """Number of records not yet committed; -1: unknown."""
    since_s: list[float] = []
    """Append time of the oldest uncommitted record, seconds since the epoch; NaN: none, or unknown."""
    healths: list[int] = []
    """Health of each partition as an index into GroupHealth."""


class LagMinute(msgspec.Struct, frozen=True, kw_only=True):
    """Readings of one minute, as arrays parallel to `group_partitions`, with the partitions that had lag or traffic."""

    at: datetime
    readings: int
    group_partitions: list[int]
    arrived: list[int]
    """Records written in that minute."""
    completed: list[int]
    """Records committed in that minute."""
    lag_max: list[int]
    lag_mean: list[float]
    lag_s_max: list[float]


class LagSample(msgspec.Struct, frozen=True, kw_only=True):
    """Lag of a consumer group on one partition. Null means unknown, which is not zero."""

    at: datetime
    consumer_group: str
    topic: str
    partition: int
    end_offset: int | None
    committed: int | None
    lag: int | None
    """Number of records behind the end."""
    lag_s: float | None
    """Seconds since the oldest uncommitted record was appended."""
    health: GroupHealth


class AlarmKind(StrEnum):
    """Kind of problem with a topic."""

    LOST = "lost"
    """Records were deleted before they were processed."""
    LARGE = "large"
    """The topic takes more bytes than its limit."""


class TopicAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """Problem with a topic of work."""

    topic: str
    kind: AlarmKind
    at: datetime
    """Time of the last observation."""
    amount: int
    """Total number of lost records, or size in bytes."""


class LoadSample(msgspec.Struct, frozen=True, kw_only=True):
    """Received and answered queries of one load class between two readings; see `schemas.load_classes`."""

    at: datetime
    task: str
    target: str | None
    min_accuracy: float
    latency_ms: float | None
    offline: bool
    queries: int
    inputs: int
    refused: int
    """Queries that selectors refused."""
    upgraded: int
    capped: int
    """Queries with a maximum cost."""
    max_costs: float
    """Sum of these maximum costs, each in USD per 1000 inputs."""
    answered: int
    """Queries that workers answered, including errors; they may have arrived earlier."""
    late: int
    failed: int


class AnswerTimesSample(msgspec.Struct, frozen=True, kw_only=True):
    """Histogram of the answer times of a task's online queries since the last sample; see `schemas.answer_times`."""

    at: datetime
    task: str
    buckets: list[int]
    counts: list[int]
    """Number of answers in each of the buckets."""


class InstanceSample(msgspec.Struct, frozen=True, kw_only=True):
    """State of an instance at a reading, and its work since the previous reading."""

    at: datetime
    variant: str
    worker: str
    state: InstanceState
    queued: int
    batch_size: float
    batch_s: float
    slowdown: float
    """Ratio of measured to profiled latency."""
    answered: int
    inputs: int
    late: int
    expired: int


class WorkerSample(msgspec.Struct, frozen=True, kw_only=True):
    """State of a worker at a reading."""

    at: datetime
    worker: str
    hardware: str
    slots: int
    utilisation: float
    """Share of the slots' time spent computing in the last seconds."""
    memory_used: int
    memory_total: int
    cpus: float
    """CPUs that it may use; 0: unknown."""
    cpu_busy: float
    """Share of these CPUs' time in use by all processes, 0..1."""
