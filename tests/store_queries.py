"""Deletes, state changes and reads of stored rows that only tests need."""

from datetime import datetime
from typing import TypeVar

import msgspec

from schemas.rows.catalog import VariantState
from schemas.rows.samples import InstanceSample, LagSample, LoadSample, WorkerSample
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool, load_queries
from store.registry import list_architectures

Row = TypeVar("Row", bound=msgspec.Struct)


async def delete_task(pool: Pool, name: str) -> bool:
    """Delete a task with everything registered for it; return false if it does not exist."""
    names = [architecture.name for architecture in await list_architectures(pool, task=name)]
    return await _delete(pool, "DELETE FROM tasks WHERE name = $1 RETURNING name", name, [*names, name])


async def delete_architecture(pool: Pool, name: str) -> bool:
    """Delete an architecture with its variants and profiles; return false if it does not exist."""
    return await _delete(pool, "DELETE FROM architectures WHERE name = $1 RETURNING name", name, [name])


async def _delete(pool: Pool, query: str, name: str, freed: list[str]) -> bool:
    async with pool.transaction() as session:
        gone = await session.fetch_value(str, query, name) is not None
        await session.execute(load_queries("registry")["free_names"], freed if gone else [])
    return gone


async def count_lock_waits(session: DatabaseSession) -> int:
    """Return the number of connections to this database that wait for a lock."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return await session.fetch_value(int, waits) or 0


async def set_variant_state(session: DatabaseSession, variant: str, state: VariantState, reason: str = "") -> None:
    """Store the state of a variant's registration."""
    update = "UPDATE variants SET state = $2, reason = $3 WHERE name = $1"
    if not await session.execute(update, variant, state, reason):
        raise StoreConflict(f"there is no variant {variant}")


async def lag_since(session: DatabaseSession, since: datetime) -> list[LagSample]:
    """List the samples of lag since a time, oldest first; unchanged partitions are not repeated."""
    return await _since(session, LagSample, "lag_samples", since, "consumer_group, topic, partition")


async def load_since(session: DatabaseSession, since: datetime) -> list[LoadSample]:
    """List the samples of load since a time, oldest first."""
    return await _since(session, LoadSample, "load_samples", since, "task")


async def instances_since(session: DatabaseSession, since: datetime) -> list[InstanceSample]:
    """List the samples of instances since a time, oldest first."""
    return await _since(session, InstanceSample, "instance_samples", since, "variant, worker")


async def workers_since(session: DatabaseSession, since: datetime) -> list[WorkerSample]:
    """List the samples of workers since a time, oldest first."""
    return await _since(session, WorkerSample, "worker_samples", since, "worker")


async def _since(session: DatabaseSession, kind: type[Row], table: str, since: datetime, order: str) -> list[Row]:
    columns = ", ".join(kind.__struct_fields__)
    return await session.fetch(kind, f"SELECT {columns} FROM {table} WHERE at >= $1 ORDER BY at, {order}", since)
