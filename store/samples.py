"""Samples of what was observed, and the decisions that were made from them.

Append only, written in bulk by COPY. Fine samples are of each reading, coarse ones of each minute; both are dropped by
partition when they are old. Lag is one row a reading with arrays, the changed partitions only: of 10,000 partitions, a
twentieth of them busy, that is a ten-thousandth of the rows and 0.3 % of the bytes of a row a partition
(`bench/scale/recorder.py`).
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
    """The present by the database's clock, seconds since the epoch: who records must not go by its own."""
    return await session.fetch_value(float, _PRESENT) or 0.0


async def group_partition_ids(session: DatabaseSession, group_partitions: Sequence[tuple[str, str, int]]) -> list[int]:
    """Numbers by which readings name group partitions, given as (group, topic, partition); they last for ever."""
    columns = [list(column) for column in zip(*group_partitions, strict=True)] if group_partitions else [[], [], []]
    await session.execute(_ADD_GROUP_PARTITIONS, *columns)
    return await session.fetch_value(list[int], _GROUP_PARTITION_IDS, *columns) or []


async def write_reading(session: DatabaseSession, reading: LagReading) -> None:
    """Append one reading of lag."""
    await _append(session, "lag_readings", LagReading, [reading])


async def write_lag_minute(session: DatabaseSession, minute: LagMinute) -> None:
    """Append what a minute of readings comes to."""
    await _append(session, "lag_minutes", LagMinute, [minute])


async def write_load(session: DatabaseSession, samples: Sequence[LoadSample]) -> None:
    """Append what was asked and answered since the reading before."""
    await _append(session, "load_samples", LoadSample, samples)


async def write_instances(session: DatabaseSession, samples: Sequence[InstanceSample]) -> None:
    """Append what instances did since the reading before."""
    await _append(session, "instance_samples", InstanceSample, samples)


async def write_workers(session: DatabaseSession, samples: Sequence[WorkerSample]) -> None:
    """Append the state of workers at a reading."""
    await _append(session, "worker_samples", WorkerSample, samples)


async def roll_up(session: DatabaseSession, minute: datetime) -> None:
    """Sum up the samples of the minute that begins then, all but those of lag."""
    await session.execute(_ROLL_UP, minute)


async def maintain_partitions(session: DatabaseSession, present: datetime, fine_s: float, coarse_s: float) -> int:
    """Make the tables' next partitions and drop those that are older than that; returns how many were dropped."""
    return await session.fetch_value(int, _MAINTAIN_PARTITIONS, present, fine_s, coarse_s) or 0


async def write_decisions(session: DatabaseSession, decisions: Sequence[DecisionRow]) -> None:
    """Append decisions with what they were made from."""
    await _append(session, "decisions", DecisionRow, decisions)


async def latest_lag(session: DatabaseSession) -> list[LagSample]:
    """Read the latest lag of each group partition; `at` says how old it is and so whether somebody records."""
    return await session.fetch(LagSample, _LATEST_LAG)


async def reading_error(session: DatabaseSession) -> str:
    """Read why the last reading failed; empty if it did not, or nobody ever read."""
    return await session.fetch_value(str, _READING_ERROR) or ""


async def add_losses(session: DatabaseSession, at: datetime, lost: Mapping[str, int]) -> None:
    """Add to the numbers of records that topics have lost."""
    for topic, count in lost.items():
        await session.execute(_ADD_LOSS, topic, at, count)


async def prune_losses(session: DatabaseSession, before: datetime) -> int:
    """Forget the losses that nobody has added to since a time; returns of how many topics."""
    return await session.execute(_PRUNE_LOSSES, before)


async def put_large_topics(session: DatabaseSession, at: datetime, sizes: Mapping[str, int]) -> None:
    """Say which topics are too large now, with their bytes; those that were before are no longer."""
    await session.execute(_PUT_LARGE_TOPICS, at, list(sizes), list(sizes.values()))


async def topic_alarms(session: DatabaseSession) -> list[TopicAlarm]:
    """Read all that is wrong with topics."""
    return await session.fetch(TopicAlarm, _TOPIC_ALARMS)


async def lag_since(session: DatabaseSession, since: datetime) -> list[LagSample]:
    """List the samples of lag since a time, oldest first; where nothing changed, nothing is repeated."""
    return await session.fetch(LagSample, _LAG_SINCE, since)


async def load_since(session: DatabaseSession, since: datetime) -> list[LoadSample]:
    """List the samples of load since a time, oldest first."""
    return await session.fetch(LoadSample, _LOAD_SINCE, since)


class TaskHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Load of a task, a value a second, the latest last."""

    task: str
    inputs_per_s: list[float]


async def task_history(session: DatabaseSession, since: datetime, until: datetime) -> list[TaskHistory]:
    """Read the load, second by second, of each task that was asked anything since a time."""
    return await session.fetch(TaskHistory, _TASK_HISTORY, since, until)


async def instances_since(session: DatabaseSession, since: datetime) -> list[InstanceSample]:
    """List the samples of instances since a time, oldest first."""
    return await session.fetch(InstanceSample, _INSTANCES_SINCE, since)


async def workers_since(session: DatabaseSession, since: datetime) -> list[WorkerSample]:
    """List the samples of workers since a time, oldest first."""
    return await session.fetch(WorkerSample, _WORKERS_SINCE, since)


async def list_decisions(session: DatabaseSession, limit: int = 100, *, about: str | None = None) -> list[DecisionRow]:
    """List the last decisions, latest first; `about` is a variant, an architecture, a task, a worker or a hardware."""
    return await session.fetch(DecisionRow, _LIST_DECISIONS, limit, about)


async def prune_decisions(session: DatabaseSession, before: datetime) -> int:
    """Delete the decisions from before a time; returns how many."""
    return await session.execute(_PRUNE_DECISIONS, before)


async def _append(
    session: DatabaseSession, table: str, kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]
) -> None:
    columns = kind.__struct_fields__
    records = [tuple(getattr(row, column) for column in columns) for row in rows]
    if records:
        await session.copy(table, columns, records)
