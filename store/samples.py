"""Samples of observations, and the scaling decisions made from them.

The tables are append-only and written in bulk by COPY. There is a fine sample for each reading and a coarse one for
each minute; both are deleted by dropping old partitions. A lag reading is one row with arrays that contain only the
changed partitions. With 10,000 partitions, of which 5 % are busy, this takes 0.3 % of the bytes of one row per
partition (`bench/scale/recorder.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from schemas.rows.samples import (
    InstanceSample,
    LagMinute,
    LagReading,
    LagSample,
    LoadSample,
    TopicAlarm,
    WorkerSample,
)
from schemas.rows.scaling import DecisionRow
from store.pool import DatabaseSession
from store.sql import load_queries

_queries = load_queries("samples")
_PRESENT: Final = _queries["present"]
_ADD_GROUP_PARTITIONS: Final = _queries["add_group_partitions"]
_GROUP_PARTITION_IDS: Final = _queries["group_partition_ids"]
_LATEST_LAG: Final = _queries["latest_lag"]
_READING_ERROR: Final = _queries["reading_error"]
_ADD_LOSS: Final = _queries["add_loss"]
_PUT_LARGE_TOPICS: Final = _queries["put_large_topics"]
_PRUNE_LOSSES: Final = _queries["prune_losses"]
_TOPIC_ALARMS: Final = _queries["topic_alarms"]
_LAG_SINCE: Final = _queries["lag_since"]
_LOAD_SINCE: Final = _queries["load_since"]
_TASK_HISTORY: Final = _queries["task_history"]
_INSTANCES_SINCE: Final = _queries["instances_since"]
_WORKERS_SINCE: Final = _queries["workers_since"]
_MAINTAIN_PARTITIONS: Final = _queries["maintain_partitions"]
_ROLL_UP: Final = _queries["roll_up"]
_LIST_DECISIONS: Final = _queries["list_decisions"]
_PRUNE_DECISIONS: Final = _queries["prune_decisions"]


async def present_s(session: DatabaseSession) -> float:
    """Return the present time by the database's clock, seconds since the epoch.

    Recorders use it instead of their own clocks.
    """
    return await session.fetch_value(float, _PRESENT) or 0.0


async def group_partition_ids(session: DatabaseSession, group_partitions: Sequence[tuple[str, str, int]]) -> list[int]:
    """Return the ids of group partitions, given as (group, topic, partition). Ids are permanent."""
    columns = [list(column) for column in zip(*group_partitions, strict=True)] if group_partitions else [[], [], []]
    await session.execute(_ADD_GROUP_PARTITIONS, *columns)
    return await session.fetch_value(list[int], _GROUP_PARTITION_IDS, *columns) or []


async def write_reading(session: DatabaseSession, reading: LagReading) -> None:
    """Append one reading of lag."""
    await _append(session, "lag_readings", LagReading, [reading])


async def write_lag_minute(session: DatabaseSession, minute: LagMinute) -> None:
    """Append the summary of a minute of lag readings."""
    await _append(session, "lag_minutes", LagMinute, [minute])


async def write_load(session: DatabaseSession, samples: Sequence[LoadSample]) -> None:
    """Append the queries received and answered since the previous reading."""
    await _append(session, "load_samples", LoadSample, samples)


async def write_instances(session: DatabaseSession, samples: Sequence[InstanceSample]) -> None:
    """Append the work of instances since the previous reading."""
    await _append(session, "instance_samples", InstanceSample, samples)


async def write_workers(session: DatabaseSession, samples: Sequence[WorkerSample]) -> None:
    """Append the state of workers at a reading."""
    await _append(session, "worker_samples", WorkerSample, samples)


async def roll_up(session: DatabaseSession, minute: datetime) -> None:
    """Aggregate the samples of the minute that begins at `minute`, except those of lag."""
    await session.execute(_ROLL_UP, minute)


async def maintain_partitions(session: DatabaseSession, present: datetime, fine_s: float, coarse_s: float) -> int:
    """Create the tables' next partitions and drop the expired ones; return the number of dropped partitions."""
    return await session.fetch_value(int, _MAINTAIN_PARTITIONS, present, fine_s, coarse_s) or 0


async def write_decisions(session: DatabaseSession, decisions: Sequence[DecisionRow]) -> None:
    """Append decisions with their inputs."""
    await _append(session, "decisions", DecisionRow, decisions)


async def latest_lag(session: DatabaseSession) -> list[LagSample]:
    """Return the latest lag of each group partition; an old `at` means that the recorder does not run."""
    return await session.fetch(LagSample, _LATEST_LAG)


async def reading_error(session: DatabaseSession) -> str:
    """Return the error of the last reading; empty if it succeeded or there was none."""
    return await session.fetch_value(str, _READING_ERROR) or ""


async def add_losses(session: DatabaseSession, at: datetime, lost: Mapping[str, int]) -> None:
    """Add to the numbers of records that topics have lost."""
    for topic, count in lost.items():
        await session.execute(_ADD_LOSS, topic, at, count)


async def prune_losses(session: DatabaseSession, before: datetime) -> int:
    """Delete the losses without additions since a time; return the number of topics."""
    return await session.execute(_PRUNE_LOSSES, before)


async def put_large_topics(session: DatabaseSession, at: datetime, sizes: Mapping[str, int]) -> None:
    """Replace the list of topics that are too large, with their bytes."""
    await session.execute(_PUT_LARGE_TOPICS, at, list(sizes), list(sizes.values()))


async def topic_alarms(session: DatabaseSession) -> list[TopicAlarm]:
    """Return all alarms of topics."""
    return await session.fetch(TopicAlarm, _TOPIC_ALARMS)


async def lag_since(session: DatabaseSession, since: datetime) -> list[LagSample]:
    """List the samples of lag since a time, oldest first; unchanged partitions are not repeated."""
    return await session.fetch(LagSample, _LAG_SINCE, since)


async def load_since(session: DatabaseSession, since: datetime) -> list[LoadSample]:
    """List the samples of load since a time, oldest first."""
    return await session.fetch(LoadSample, _LOAD_SINCE, since)


class TaskHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a task with one value per second, oldest first."""

    task: str
    inputs_per_s: list[float]


async def task_history(session: DatabaseSession, since: datetime, until: datetime) -> list[TaskHistory]:
    """Return the load per second of each task that received queries since a time."""
    return await session.fetch(TaskHistory, _TASK_HISTORY, since, until)


async def instances_since(session: DatabaseSession, since: datetime) -> list[InstanceSample]:
    """List the samples of instances since a time, oldest first."""
    return await session.fetch(InstanceSample, _INSTANCES_SINCE, since)


async def workers_since(session: DatabaseSession, since: datetime) -> list[WorkerSample]:
    """List the samples of workers since a time, oldest first."""
    return await session.fetch(WorkerSample, _WORKERS_SINCE, since)


async def list_decisions(session: DatabaseSession, limit: int = 100, *, about: str | None = None) -> list[DecisionRow]:
    """List the latest decisions, newest first; `about` is a variant, architecture, task, worker or hardware."""
    return await session.fetch(DecisionRow, _LIST_DECISIONS, limit, about)


async def prune_decisions(session: DatabaseSession, before: datetime) -> int:
    """Delete the decisions before a time; return their number."""
    return await session.execute(_PRUNE_DECISIONS, before)


async def _append(
    session: DatabaseSession, table: str, kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]
) -> None:
    columns = kind.__struct_fields__
    records = [tuple(getattr(row, column) for column in columns) for row in rows]
    if records:
        await session.copy(table, columns, records)
