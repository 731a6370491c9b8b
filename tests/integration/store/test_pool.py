"""Tests of connections: statements, transactions, full servers and TLS."""

import asyncio
from pathlib import Path

import pytest

from schemas.errors import OperatorError
from store.errors import StoreBusy, StoreConflict, StoreFull, StoreUnavailable
from store.leader import Leadership
from store.migrate import upgrade
from store.pool import DatabaseSession, Pool, open_pool
from store.registry import list_tasks, put_task
from tests.example_rows import a_task
from tests.proxies import encrypted
from tests.secured_kafka import Certificates
from tests.waiting import PATIENCE_S

LATE_S = 2.0
"""Timeout in seconds that connecting and short statements meet even on a busy machine."""


async def test_hanging_statement_times_out_and_frees_connection(database: str) -> None:
    async with open_pool(database, max_size=1, timeout_s=LATE_S) as pool:
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(PATIENCE_S):
                await pool.execute(f"SELECT pg_sleep({2 * PATIENCE_S})")
        assert await pool.fetch_value(int, "SELECT 1") == 1


async def test_waiting_for_connection_times_out(database: str) -> None:
    async with open_pool(database, max_size=1, timeout_s=LATE_S) as pool, pool.transaction():
        with pytest.raises(StoreUnavailable):
            await pool.execute("SELECT 1")


async def test_transaction_rolls_back_on_error(store_pool: Pool) -> None:
    async def fail_after_put(session: DatabaseSession) -> None:
        await put_task(session, a_task())
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        async with store_pool.transaction() as session:
            await fail_after_put(session)
    assert await list_tasks(store_pool) == []


async def test_cancelled_call_frees_connection(database: str) -> None:
    async with open_pool(database, max_size=1) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.execute("SELECT pg_sleep(30)")
        assert await pool.fetch_value(int, "SELECT 1") == 1


async def test_lock_timeout_is_store_busy(store_pool: Pool) -> None:
    async def wait_briefly() -> None:
        async with store_pool.transaction() as waiting:
            await waiting.execute("SET LOCAL lock_timeout = '50ms'")
            await waiting.execute("LOCK TABLE tasks")

    async with store_pool.transaction() as holding:
        await holding.execute("LOCK TABLE tasks")
        with pytest.raises(StoreBusy):
            await wait_briefly()
    await wait_briefly()


async def test_deadlock_is_store_busy_for_one(store_pool: Pool) -> None:
    both_hold = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> str:
        try:
            async with store_pool.transaction() as session:
                await session.execute("SET LOCAL deadlock_timeout = '50ms'")
                await session.execute(f"LOCK TABLE {first}")
                await both_hold.wait()
                await session.execute(f"LOCK TABLE {second}")
        except StoreBusy:
            return "again"
        return "done"

    ends = await asyncio.gather(lock("tasks", "workers"), lock("workers", "tasks"))
    assert sorted(ends) == ["again", "done"]


async def test_serialization_failure_is_store_busy(store_pool: Pool) -> None:
    async def touch(session: DatabaseSession) -> None:
        await session.execute("UPDATE tasks SET partitions = partitions + 1")

    async def touch_what_has_changed() -> None:
        async with store_pool.transaction() as session:
            await session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await list_tasks(session)
            await touch(store_pool)
            await touch(session)

    await put_task(store_pool, a_task())
    with pytest.raises(StoreBusy):
        await touch_what_has_changed()


async def test_leader_survives_lock_timeout(database: str, store_pool: Pool) -> None:
    async def write(lead: Leadership) -> None:
        async with lead.transaction() as session:
            await session.execute("LOCK TABLE tasks")

    async with Leadership(database, "test") as lead:
        async with store_pool.transaction() as holding:
            await holding.execute("LOCK TABLE tasks")
            with pytest.raises(StoreUnavailable):  # the leader's loop then decides again
                await write(lead)
        assert not lead.lost.is_set()
        await write(lead)


async def test_invalid_sql_is_not_store_unavailable(store_pool: Pool) -> None:
    with pytest.raises(StoreConflict, match="invalid input for query argument"):
        await store_pool.execute("SELECT $1::integer", "one")
    with pytest.raises(OperatorError, match="infaas db upgrade"):
        await store_pool.execute("SELECT FROM missing")


async def test_postgres_tls_verifies_server_certificate(database: str, tmp_path: Path) -> None:
    (others := tmp_path / "others").mkdir()
    ours, strangers = Certificates(tmp_path), Certificates(others)
    async with encrypted(database, *ours.issue("postgres"), ours.authority, tmp_path) as dsn:
        await upgrade(dsn)
        async with open_pool(dsn) as pool:
            assert await pool.fetch_value(int, "SELECT 1") == 1
        with pytest.raises(StoreUnavailable, match=r"certificate is not trusted.*sslrootcert"):
            async with open_pool(dsn.replace(str(ours.authority), str(strangers.authority))):
                pass
        with pytest.raises(StoreUnavailable, match="certificate is not trusted"):
            await upgrade(dsn.replace("127.0.0.1", "localhost"))


async def test_postgres_without_tls_is_not_store_full(database: str) -> None:
    with pytest.raises(StoreUnavailable, match="rejected SSL") as told:
        async with open_pool(f"{database}?sslmode=require"):
            pass
    assert not isinstance(told.value, StoreFull)
