"""Every call ends in time, transactions are whole, and queries are found by name."""

import asyncio
import time

import asyncpg
import pytest

from schemas.errors import OperatorError
from store.errors import StoreUnavailable
from store.pool import DatabaseSession, Pool, open_pool
from store.registry import list_tasks, put_task
from tests.store_rows import a_task


async def test_a_statement_that_hangs_is_ended_and_frees_its_connection(database: str) -> None:
    async with open_pool(database, max_size=1, timeout_s=0.2) as pool:
        start = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await pool.execute("SELECT pg_sleep(30)")
        assert time.monotonic() - start < 5
        assert await pool.fetch_value(int, "SELECT 1") == 1


async def test_waiting_for_a_connection_ends_too(database: str) -> None:
    async with open_pool(database, max_size=1, timeout_s=0.2) as pool, pool.transaction():
        with pytest.raises(StoreUnavailable):
            await pool.execute("SELECT 1")


async def test_a_transaction_is_whole(store_pool: Pool) -> None:
    async def fail_after_put(session: DatabaseSession) -> None:
        await put_task(session, a_task())
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        async with store_pool.transaction() as session:
            await fail_after_put(session)
    assert await list_tasks(store_pool) == []


async def test_cancelling_a_call_frees_its_connection(database: str) -> None:
    async with open_pool(database, max_size=1) as pool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.execute("SELECT pg_sleep(30)")
        assert await pool.fetch_value(int, "SELECT 1") == 1


async def test_defects_of_our_own_are_not_outages(store_pool: Pool) -> None:
    with pytest.raises(asyncpg.DataError, match="invalid input for query argument"):
        await store_pool.execute("SELECT $1::integer", "one")
    with pytest.raises(OperatorError, match="infaas db upgrade"):
        await store_pool.execute("SELECT FROM missing")
