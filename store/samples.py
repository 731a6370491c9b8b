"""Samples of observations, and the scaling decisions made from them.

The tables are append-only and written in bulk by COPY. There is a fine sample for each reading and a coarse one for
each minute; both are deleted by dropping old partitions. A lag reading is one row with arrays that contain only the
changed partitions. With 10,000 partitions, of which 5 % are busy, this takes 0.3 % of the bytes of one row per
partition (`bench/scale/recorder.py`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, TypeAlias

import msgspec

from schemas.generation import GenerationProfile
from schemas.rows.cluster import DecisionRow
from schemas.rows.samples import (
    AnswerTimesSample,
    InstanceSample,
    LagMinute,
    LagReading,
    LagSample,
    LoadSample,
    TopicAlarm,
    WorkerSample,
)
from schemas.status import SERVING
from schemas.topics import TASKS, VARIANTS
from store.pool import DatabaseSession, load_queries

_SQL: Final = load_queries("samples")
_TABLES: Final[Mapping[type[msgspec.Struct], str]] = {
    LagMinute: "lag_minutes",
    LoadSample: "load_samples",
    AnswerTimesSample: "answer_times",
    InstanceSample: "instance_samples",
    WorkerSample: "worker_samples",
}
Sample: TypeAlias = LagMinute | LoadSample | AnswerTimesSample | InstanceSample | WorkerSample


async def present_s(session: DatabaseSession) -> float:
    """Return the present time by the database's clock, seconds since the epoch.

    Recorders use it instead of their own clocks.
    """
    return await session.fetch_value(float, _SQL["present"]) or 0.0


async def group_partition_ids(session: DatabaseSession, group_partitions: Sequence[tuple[str, str, int]]) -> list[int]:
    """Return the ids of group partitions, given as (group, topic, partition). Ids are permanent."""
    columns = [list(column) for column in zip(*group_partitions, strict=True)] if group_partitions else [[], [], []]
    await session.execute(_SQL["add_group_partitions"], *columns)
    return await session.fetch_value(list[int], _SQL["group_partition_ids"], *columns) or []


async def write_reading(session: DatabaseSession, reading: LagReading) -> None:
    """Append one reading of lag."""
    await _append(session, "lag_readings", [reading])


async def write_samples(session: DatabaseSession, rows: Sequence[Sample]) -> None:
    """Append samples of one kind."""
    if rows:
        await _append(session, _TABLES[type(rows[0])], rows)


async def roll_up(session: DatabaseSession, minute: datetime) -> None:
    """Aggregate the samples of the minute that begins at `minute`, except those of lag."""
    await session.execute(_SQL["roll_up"], minute)


async def maintain_partitions(session: DatabaseSession, present: datetime, fine_s: float, coarse_s: float) -> int:
    """Create the tables' next partitions and drop the expired ones; return the number of dropped partitions."""
    return await session.fetch_value(int, _SQL["maintain_partitions"], present, fine_s, coarse_s) or 0


async def write_decisions(session: DatabaseSession, decisions: Sequence[DecisionRow]) -> None:
    """Append decisions with their inputs."""
    await _append(session, "decisions", decisions)


async def latest_lag(session: DatabaseSession) -> list[LagSample]:
    """Return the latest lag of each group partition; an old `at` means that the recorder does not run."""
    return await session.fetch(LagSample, _SQL["latest_lag"])


async def reading_error(session: DatabaseSession) -> str:
    """Return the error of the last reading; empty if it succeeded or there was none."""
    return await session.fetch_value(str, _SQL["reading_error"]) or ""


async def add_losses(session: DatabaseSession, at: datetime, lost: Mapping[str, int]) -> None:
    """Add to the numbers of records that topics have lost."""
    for topic, count in lost.items():
        await session.execute(_SQL["add_loss"], topic, at, count)


async def prune_losses(session: DatabaseSession, before: datetime) -> int:
    """Delete the losses without additions since a time; return the number of topics."""
    return await session.execute(_SQL["prune_losses"], before)


async def put_large_topics(session: DatabaseSession, at: datetime, sizes: Mapping[str, int]) -> None:
    """Replace the list of topics that are too large, with their bytes."""
    await session.execute(_SQL["put_large_topics"], at, list(sizes), list(sizes.values()))


async def topic_alarms(session: DatabaseSession) -> list[TopicAlarm]:
    """Return all alarms of topics."""
    return await session.fetch(TopicAlarm, _SQL["topic_alarms"])


class TaskAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a task in a time range, and its answers in that range, which may be to earlier queries."""

    task: str
    queries: int
    """Online queries."""
    offline_queries: int
    refused: int
    answered: int
    """Answers of workers, including errors."""
    late: int
    failed: int
    wanted_accuracy: float | None
    """Mean accuracy required by the queries that required one; None: there was none."""
    wanted_cost: float | None
    """Mean maximum cost of the queries that stated one, in USD per 1000 inputs; None: there was none."""


class TaskAnswerTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Histogram of the answer times of a task's online queries in a time range; see `schemas.answer_times`."""

    task: str
    buckets: list[int]
    counts: list[int]


class VariantAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """Number of queries that a variant answered in a time range."""

    variant: str
    task: str
    hardware: str
    answered: int
    accuracy: float
    threads: int
    """Threads per batch."""
    input_s: float
    """Seconds of an input at the variant's best batch size."""
    generation: GenerationProfile | None = None
    """Times of its generated answers; None: it is not generative."""


async def task_loads(session: DatabaseSession, seconds: float) -> list[TaskAnswers]:
    """Return the load of each task in the last seconds, by name."""
    return await session.fetch(TaskAnswers, _SQL["task_loads"], seconds)


async def task_answer_times(session: DatabaseSession, seconds: float) -> list[TaskAnswerTimes]:
    """Return the answer times of each task in the last seconds, at least ten: there is a sample every five."""
    return await session.fetch(TaskAnswerTimes, _SQL["task_answer_times"], max(seconds, 10.0))


async def variant_loads(session: DatabaseSession, seconds: float) -> list[VariantAnswers]:
    """Return the variants that answered in the last seconds, the most used first."""
    return await session.fetch(VariantAnswers, _SQL["variant_loads"], seconds)


class TaskLoadPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Queries of one load class of a task in an interval."""

    at: datetime
    """Beginning of the interval."""
    target: str | None
    min_accuracy: float
    latency_ms: float | None
    offline: bool
    queries: int
    refused: int
    answered: int
    late: int
    failed: int


class CountPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Number of instances of a variant, or of workers of a hardware type, in a minute."""

    at: datetime
    name: str
    count: int


class TaskLag(msgspec.Struct, frozen=True, kw_only=True):
    """Queries of a task that wait, and the age of the oldest."""

    task: str
    lag: int
    lag_s: float | None


async def task_load_points(session: DatabaseSession, task: str, seconds: float, step_s: float) -> list[TaskLoadPoint]:
    """Return the load of each class of a task in intervals of `step_s`, oldest first."""
    return await session.fetch(TaskLoadPoint, _SQL["task_load_points"], task, seconds, step_s)


async def instance_counts(session: DatabaseSession, seconds: float) -> list[CountPoint]:
    """Return the number of instances of each variant that serve, for each of the last minutes."""
    return await session.fetch(CountPoint, _SQL["instance_counts"], seconds, [state.value for state in SERVING])


async def worker_counts(session: DatabaseSession, seconds: float) -> list[CountPoint]:
    """Return the number of workers of each hardware type, for each of the last minutes."""
    return await session.fetch(CountPoint, _SQL["worker_counts"], seconds)


async def task_lags(session: DatabaseSession) -> list[TaskLag]:
    """Return the tasks whose queries wait in topics."""
    return await session.fetch(TaskLag, _SQL["task_lags"], TASKS, VARIANTS)


async def reading_at(session: DatabaseSession) -> datetime | None:
    """Return the time of the last successful reading of lag; None: there was none."""
    return await session.fetch_value(datetime, _SQL["reading_at"])


async def latest_worker_samples(session: DatabaseSession, seconds: float) -> list[WorkerSample]:
    """Return the last sample of each worker in the last seconds, by name."""
    return await session.fetch(WorkerSample, _SQL["latest_worker_samples"], seconds)


async def list_decisions(session: DatabaseSession, limit: int = 100, *, about: str | None = None) -> list[DecisionRow]:
    """List the latest decisions, newest first; `about` is a variant, architecture, task, worker or hardware."""
    return await session.fetch(DecisionRow, _SQL["list_decisions"], limit, about)


async def prune_decisions(session: DatabaseSession, before: datetime) -> int:
    """Delete the decisions before a time; return their number."""
    return await session.execute(_SQL["prune_decisions"], before)


async def _append(session: DatabaseSession, table: str, rows: Sequence[msgspec.Struct]) -> None:
    if rows:
        columns = rows[0].__struct_fields__
        await session.copy(table, columns, [tuple(getattr(row, column) for column in columns) for row in rows])
