"""What was observed each second, and which changes of scale were decided from it.

Append only, written in bulk by COPY and pruned by time. All samples of one reading carry the same `at`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from schemas.records import ArrivalSample, DecisionRow, InstanceSample, LagSample
from store.pool import Session
from store.sql import load_queries

_queries = load_queries("samples")
_LATEST_LAG: Final = _queries["latest_lag"]
_LAG_SINCE: Final = _queries["lag_since"]
_ARRIVALS_SINCE: Final = _queries["arrivals_since"]
_INSTANCES_SINCE: Final = _queries["instances_since"]
_LIST_DECISIONS: Final = _queries["list_decisions"]
_PRUNE: Final = _queries["prune"]
_PRUNE_DECISIONS: Final = _queries["prune_decisions"]


async def write_lag(session: Session, samples: Sequence[LagSample]) -> None:
    """Append one reading of lag."""
    await _append(session, "lag_samples", LagSample, samples)


async def write_arrivals(session: Session, samples: Sequence[ArrivalSample]) -> None:
    """Append one second's arrivals."""
    await _append(session, "arrival_samples", ArrivalSample, samples)


async def write_instances(session: Session, samples: Sequence[InstanceSample]) -> None:
    """Append one second's instance states."""
    await _append(session, "instance_samples", InstanceSample, samples)


async def write_decisions(session: Session, decisions: Sequence[DecisionRow]) -> None:
    """Append decisions with what they were made from."""
    await _append(session, "decisions", DecisionRow, decisions)


async def latest_lag(session: Session) -> list[LagSample]:
    """The last reading of each group, topic and partition; `at` says how old it is and so whether somebody records."""
    return await session.fetch(LagSample, _LATEST_LAG)


async def lag_since(session: Session, since: datetime) -> list[LagSample]:
    """All readings of lag since a time, oldest first."""
    return await session.fetch(LagSample, _LAG_SINCE, since)


async def arrivals_since(session: Session, since: datetime) -> list[ArrivalSample]:
    """Arrivals since a time, oldest first."""
    return await session.fetch(ArrivalSample, _ARRIVALS_SINCE, since)


async def instances_since(session: Session, since: datetime) -> list[InstanceSample]:
    """Instance states since a time, oldest first."""
    return await session.fetch(InstanceSample, _INSTANCES_SINCE, since)


async def list_decisions(session: Session, limit: int = 100, *, about: str | None = None) -> list[DecisionRow]:
    """The last decisions, latest first; `about` is a variant, an architecture, a task, a worker or a hardware."""
    return await session.fetch(DecisionRow, _LIST_DECISIONS, limit, about)


async def prune(session: Session, before: datetime) -> int:
    """Delete the samples from before a time; returns how many."""
    return await session.fetch_value(int, _PRUNE, before) or 0


async def prune_decisions(session: Session, before: datetime) -> int:
    """Delete the decisions from before a time; returns how many."""
    return await session.execute(_PRUNE_DECISIONS, before)


async def _append(session: Session, table: str, kind: type[msgspec.Struct], rows: Iterable[msgspec.Struct]) -> None:
    columns = kind.__struct_fields__
    records = [tuple(getattr(row, column) for column in columns) for row in rows]
    if records:
        await session.copy(table, columns, records)
