"""Tests of the shared connection: one per process, also with more processes than connections of the server."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg
import pytest

from bench.scale.fleet import variant_name, watch_fleet
from store import registry
from store.catalog import CatalogWatcher, load_catalog
from store.change_listener import REGISTRY, ChangeListener
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import Pool
from store.shared_connection import SharedConnection
from tests.store_rows import a_profile, a_task, a_variant, an_architecture, register
from tests.waiting import until

SOON_S = 60.0
WORKERS = 40
CONNECTIONS = 20


@pytest.fixture
async def small_server(postgres_dir: Path) -> AsyncGenerator[EmbeddedPostgres]:
    """Run a server with half as many connections as workers."""
    async with EmbeddedPostgres(postgres_dir, durable=False) as server:
        await upgrade(server.dsn)
        connection = await asyncpg.connect(server.dsn)
        await connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        await connection.close()
        await server.stop()
        await server.start()
        yield server


async def test_more_workers_than_connections_get_changes(small_server: EmbeddedPostgres) -> None:
    async with asyncio.timeout(3 * SOON_S):
        seen = await watch_fleet(small_server.dsn, WORKERS, 4.0)
    assert max(seen.connections) <= CONNECTIONS
    assert len(seen.placed_s) == len(seen.registered_s) == WORKERS


async def test_shared_connection_is_one_per_process(database: str) -> None:
    async with (
        SharedConnection(database) as shared,
        CatalogWatcher(shared),
        ChangeListener(shared, [REGISTRY]) as heard,
    ):
        async with asyncio.timeout(SOON_S):
            await anext(heard)
        assert await shared.fetch_value(int, _OURS) == 1
        assert shared.is_kept


async def test_catalog_watcher_reads_only_changes(
    database: str, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store_pool, variant_name("first"))
    async with CatalogWatcher(database) as watcher, asyncio.timeout(SOON_S):

        async def read_all(_pool: Pool) -> None:
            raise AssertionError("everything was read")

        # The first announcement says that any row may have changed; the watcher listens after it.
        await registry.put_task(store_pool, a_task("other"))
        while "other" not in watcher.current.tasks:
            await watcher.changed()
        monkeypatch.setattr(watcher, "_load", read_all)
        await registry.put_architecture(store_pool, an_architecture("second", "other"))
        await registry.put_variant(
            store_pool, a_variant(variant_name("second"), "other"), a_profile(variant_name("second"))
        )
        while variant_name("second") not in watcher.current.variants:
            await watcher.changed()
        assert await load_catalog(store_pool) == watcher.current
        await registry.delete_task(store_pool, "other")
        while "other" in watcher.current.tasks or len(watcher.current.variants) > 1:
            await watcher.changed()
        assert await load_catalog(store_pool) == watcher.current


async def test_register_again_announces_nothing(database: str, store_pool: Pool) -> None:
    await register(store_pool, variant_name("first"))
    async with ChangeListener(database, [REGISTRY]) as heard:
        async with asyncio.timeout(SOON_S):
            await anext(heard)
        await registry.put_task(store_pool, a_task())
        await registry.put_task(store_pool, a_task("another"))
        async with asyncio.timeout(SOON_S):
            await anext(heard)
        assert heard.taken == frozenset({"tasks another"})


async def test_polling_reads_changes_of_long_transaction(
    database: str, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # otherwise one poll in ten keeps the connection, which is then notified
    monkeypatch.setattr("store.shared_connection._KEEP", 0.0)
    async with (
        SharedConnection(database) as shared,
        ChangeListener(shared, [REGISTRY]) as heard,
        asyncio.timeout(SOON_S),
    ):
        await anext(heard)
        shared.pass_on()
        await until(lambda: not shared.is_kept)  # until then it is notified, too
        async with store_pool.transaction() as slow:
            await registry.put_task(slow, a_task("slow"))  # gets the first number and commits last
            await registry.put_task(store_pool, a_task("fast"))
            await anext(heard)
            assert heard.taken == frozenset({"tasks fast"})
        await anext(heard)
        assert heard.taken == frozenset({"tasks slow"})


_OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'infaas%'"
