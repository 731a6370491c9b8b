"""Rows of what was seen at a reading: lag, load, instances and workers."""

from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.status import InstanceState


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
    """One reading of lag, packed: the lists run along `group_partitions`, numbers from `group_partition_ids`."""

    at: datetime
    whole: bool
    """Of every partition; else of those that are not as in the row before."""
    error: str = ""
    """Why nothing could be read."""
    group_partitions: list[int] = []
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
    """A minute of readings, packed, of the group_partitions that were behind or moved."""

    at: datetime
    readings: int
    group_partitions: list[int]
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
    """What was asked and answered of one needs class between two readings; see `schemas.load_classes`."""

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
