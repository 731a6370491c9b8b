"""One connection a process, and more processes than a server has connections."""

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
    """A server with half as many connections as workers."""
    async with EmbeddedPostgres(postgres_dir, durable=False) as server:
        await upgrade(server.dsn)
        connection = await asyncpg.connect(server.dsn)
        await connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        await connection.close()
        await server.stop()
        await server.start()
        yield server


async def test_more_workers_than_connections_live_and_learn_of_changes(small_server: EmbeddedPostgres) -> None:
    async with asyncio.timeout(3 * SOON_S):
        seen = await watch_fleet(small_server.dsn, WORKERS, 4.0)
    assert max(seen.connections) <= CONNECTIONS
    assert len(seen.placed_s) == len(seen.registered_s) == WORKERS


async def test_a_process_has_one_connection(database: str) -> None:
    async with (
        SharedConnection(database) as shared,
        CatalogWatcher(shared),
        ChangeListener(shared, [REGISTRY]) as heard,
    ):
        async with asyncio.timeout(SOON_S):
            await anext(heard)
        assert await shared.fetch_value(int, _OURS) == 1
        assert shared.is_kept


async def test_a_watcher_reads_only_what_changed(
    database: str, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store_pool, variant_name("first"))
    async with CatalogWatcher(database) as watcher, asyncio.timeout(SOON_S):

        async def read_all(_pool: Pool) -> None:
            raise AssertionError("everything was read")

        # What is announced first is that anything may have changed; then it listens.
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


async def test_registering_the_same_again_announces_nothing(database: str, store_pool: Pool) -> None:
    await register(store_pool, variant_name("first"))
    async with ChangeListener(database, [REGISTRY]) as heard:
        async with asyncio.timeout(SOON_S):
            await anext(heard)
        await registry.put_task(store_pool, a_task())
        await registry.put_task(store_pool, a_task("another"))
        async with asyncio.timeout(SOON_S):
            await anext(heard)
        assert heard.taken == frozenset({"tasks another"})


async def test_changes_of_a_long_transaction_are_read_by_who_passes(
    database: str, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.shared_connection._KEEP", 0.0)  # else one look in ten keeps it again, and it is told
    async with (
        SharedConnection(database) as shared,
        ChangeListener(shared, [REGISTRY]) as heard,
        asyncio.timeout(SOON_S),
    ):
        await anext(heard)
        shared.pass_on()
        await until(lambda: not shared.is_kept)  # until then it is told, too
        async with store_pool.transaction() as slow:
            await registry.put_task(slow, a_task("slow"))  # the first number, the last commit
            await registry.put_task(store_pool, a_task("fast"))
            await anext(heard)
            assert heard.taken == frozenset({"tasks fast"})
        await anext(heard)
        assert heard.taken == frozenset({"tasks slow"})


_OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'infaas%'"
