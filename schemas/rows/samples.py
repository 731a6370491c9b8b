"""Rows of what was observed at a reading: lag, load, instances and workers."""

from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.status import InstanceState


class GroupHealth(StrEnum):
    """How a group gets on with a partition, in the manner of Burrow. The order is that of the tables' numbers."""

    UNKNOWN = "unknown"
    OK = "ok"
    LAGGING = "lagging"
    """The group commits, but falls behind ever more."""
    STALLED = "stalled"
    """Records wait, somebody serves the partition, and nothing is committed."""
    STOPPED = "stopped"
    """Records wait, and nobody serves the partition."""
    REWOUND = "rewound"
    """The committed offset went back: somebody reset it."""
    LOST = "lost"
    """Records were deleted before the group had committed them."""


class LagReading(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of lag in arrays along `group_partitions`, which are numbers from `group_partition_ids`."""

    at: datetime
    whole: bool
    """Whether every partition is here; else only those that are not as in the row before."""
    error: str = ""
    """Why nothing could be read."""
    group_partitions: list[int] = []
    end_offsets: list[int] = []
    """End of each partition; -1 is unknown."""
    committed: list[int] = []
    """Offset that the group committed; -1: never, -2: unknown."""
    lags: list[int] = []
    """Records not yet committed; -1 is unknown."""
    since_s: list[float] = []
    """When the oldest record not committed was written, seconds since the epoch; nan: there is none, or unknown."""
    healths: list[int] = []
    """Health of each as an index into GroupHealth."""


class LagMinute(msgspec.Struct, frozen=True, kw_only=True):
    """A minute of readings in arrays along `group_partitions`: those that were behind or moved."""

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


class AlarmKind(StrEnum):
    """What is wrong with a topic."""

    LOST = "lost"
    """Records were deleted before they were done."""
    LARGE = "large"
    """It takes more bytes than it should."""


class TopicAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a topic of work."""

    topic: str
    kind: AlarmKind
    at: datetime
    """When it was last seen."""
    amount: int
    """Number of records that were lost in all, or bytes."""


class LoadSample(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and answered of one load class between two readings; see `schemas.load_classes`."""

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
    answered: int
    """Queries answered by workers, errors included, whenever they were asked."""
    late: int
    failed: int


class InstanceSample(msgspec.Struct, frozen=True, kw_only=True):
    """State of an instance at a reading, and what it did since the one before."""

    at: datetime
    variant: str
    worker: str
    state: InstanceState
    queued: int
    batch_size: float
    batch_s: float
    slowdown: float
    """Measured latency over profiled latency."""
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
