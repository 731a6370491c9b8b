"""Tests of the leases of a worker: heartbeats renew them, and any doubt makes the worker read them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from store import placement
from store.pool import Pool
from store.shared_connection import SharedConnection
from tests.example_rows import a_worker, register
from tests.waiting import read_until, until
from workers.lease import Leases

VARIANT = "mlp.onnx-fp32.cpu"
TTL_S = 0.05
LONG_S = 600.0
_LAST = "SELECT heartbeat_at::text FROM workers"
_VERSIONS = "SELECT array_agg(xmin::text || ctid::text ORDER BY partition) FROM leases"


@pytest.fixture(autouse=True)
def _no_reading_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.lease._READ_S", LONG_S)


async def leases_of(pool: Pool, name: str, ttl_s: float = LONG_S) -> Leases:
    """Register a worker; return its leases, of which it loses none."""

    def on_lost(variant: str, partitions: set[int]) -> None:
        raise AssertionError(f"lost {partitions} of {variant}")

    epoch = await placement.register_worker(pool, replace(a_worker(name), lease_ttl_s=ttl_s))
    return Leases(pool, name, epoch, ttl_s, on_lost)


@asynccontextmanager
async def renewing(leases: Leases) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as tasks:
        renewal = tasks.create_task(leases.keep_renewing(0.0))
        yield
        renewal.cancel()


async def owned(pool: Pool) -> set[int]:
    return {lease.partition for lease in await placement.list_leases(pool)}


async def test_leases_report_loss_before_they_are_current(store_pool: Pool) -> None:
    await register(store_pool, VARIANT)
    epoch = await placement.register_worker(store_pool, replace(a_worker("sleeps"), lease_ttl_s=TTL_S))
    successor = await placement.register_worker(store_pool, replace(a_worker("successor"), lease_ttl_s=LONG_S))
    heard: list[tuple[str, set[int], bool]] = []

    def on_lost(variant: str, partitions: set[int]) -> None:
        heard.append((variant, partitions, leases.are_current()))

    leases = Leases(store_pool, "sleeps", epoch, TTL_S, on_lost)
    assert await leases.acquire(VARIANT, [0, 1]) == {0, 1}
    await until(lambda: placement.acquire_leases(store_pool, "successor", successor, VARIANT, [0]))
    await until(lambda: not leases.are_current())
    async with renewing(leases):
        await until(lambda: heard and leases.are_current())  # a renewal without a loss notifies nobody
    assert heard == [(VARIANT, {0}, False)]


async def test_renewal_writes_no_lease(store_pool: Pool) -> None:
    await register(store_pool, VARIANT)
    leases = await leases_of(store_pool, "cpu-0")
    await leases.acquire(VARIANT, [0, 1])
    written = await store_pool.fetch_value(list[str], _VERSIONS)
    registered = await store_pool.fetch_value(str, _LAST)
    async with renewing(leases):
        await read_until(lambda: store_pool.fetch_value(str, _LAST), lambda last: last != registered)
    assert await store_pool.fetch_value(list[str], _VERSIONS) == written


async def test_release_that_timed_out_is_repeated(database: str, store_pool: Pool) -> None:
    await register(store_pool, VARIANT)
    async with SharedConnection(database, timeout_s=0.5) as impatient:
        leases = await leases_of(impatient, "cpu-0")
        assert await until(lambda: leases.acquire(VARIANT, [0, 1])) == {0, 1}
        async with store_pool.transaction() as blocking:
            await blocking.execute("LOCK TABLE leases IN EXCLUSIVE MODE")
            await leases.release(VARIANT, [1])
            assert await owned(store_pool) == {0, 1}
        async with renewing(leases):
            await read_until(lambda: owned(store_pool), lambda left: left == {0})


async def test_leases_that_worker_does_not_know_are_released(store_pool: Pool) -> None:
    """An acquisition whose answer was lost leaves such leases."""
    await register(store_pool, VARIANT)
    leases = await leases_of(store_pool, "cpu-0")
    await leases.acquire(VARIANT, [0])
    await placement.acquire_leases(store_pool, "cpu-0", 1, VARIANT, [1])
    await store_pool.execute("UPDATE workers SET heartbeat_at = now() - interval '1 hour'")
    async with renewing(leases):
        await read_until(lambda: owned(store_pool), lambda left: left == {0})
