"""Tests of the shared connection, change notifications, and an outage of Postgres."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bench.scale.fleet import variant_name, watch_fleet
from schemas.status import InstanceState
from store import placement, registry
from store.catalog import CatalogWatcher, load_catalog
from store.embedded import EmbeddedPostgres
from store.errors import StoreUnavailable
from store.leader import Leadership
from store.migrate import upgrade
from store.pool import Pool, open_pool
from store.registrations import claim_registration
from store.shared_connection import PLACEMENT, REGISTRATIONS, REGISTRY, ChangeListener, SharedConnection
from tests.example_rows import a_profile, a_task, a_variant, a_worker, an_architecture, an_instance, register
from tests.store_queries import delete_task
from tests.waiting import until

SOON_S = 60.0
WORKERS = 24
CONNECTIONS = 12


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


@pytest.mark.needs_minutes
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
        await delete_task(store_pool, "other")
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


@pytest.fixture
async def own_server(postgres_dir: Path) -> AsyncGenerator[EmbeddedPostgres]:
    """Run a server that a test may stop."""
    async with EmbeddedPostgres(postgres_dir, durable=False) as server:
        await upgrade(server.dsn)
        yield server


async def next_of(changes: ChangeListener, count: int = 1) -> set[str]:
    async with asyncio.timeout(SOON_S):
        return {await anext(changes) for _ in range(count)}


async def hear_all(changes: ChangeListener, *rows: str) -> None:
    """Wait until the registry channel has announced all of these rows."""
    left = {*rows}
    while left:
        assert await next_of(changes) == {REGISTRY}
        left -= changes.taken or set()


async def nothing_more(changes: ChangeListener) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await anext(changes)


async def test_change_listener_reports_every_channel_at_start(database: str) -> None:
    async with ChangeListener(database, [REGISTRY, PLACEMENT]) as changes:
        assert await next_of(changes, 2) == {REGISTRY, PLACEMENT}
        await nothing_more(changes)


async def test_empty_claim_notifies_nobody(database: str, store_pool: Pool) -> None:
    """Processes whose polls woke each other would poll without pause and use a core."""
    async with ChangeListener(database, [REGISTRATIONS]) as changes:
        await next_of(changes)
        assert await claim_registration(store_pool, "one", 60, 1) is None
        await nothing_more(changes)


async def test_changes_are_announced_on_their_channel(database: str, store_pool: Pool) -> None:
    async with ChangeListener(database, [REGISTRY, PLACEMENT]) as changes:
        await next_of(changes, 2)
        await register(store_pool, "mlp.onnx-fp32.cpu")
        await hear_all(  # several statements, each announced
            changes, "tasks digits", "architectures mlp", "variants mlp.onnx-fp32.cpu", "profiles mlp.onnx-fp32.cpu"
        )
        epoch = await placement.register_worker(store_pool, a_worker())
        assert await next_of(changes) == {PLACEMENT}
        await placement.put_instances(store_pool, [an_instance()])
        assert await next_of(changes) == {PLACEMENT}
        await placement.heartbeat(store_pool, "cpu-0", epoch)
        await placement.report_instance_state(store_pool, "cpu-0", "mlp.onnx-fp32.cpu", InstanceState.ACTIVE)
        await nothing_more(changes)
        await placement.delete_instance(store_pool, "mlp.onnx-fp32.cpu", "cpu-0")
        assert await next_of(changes) == {PLACEMENT}


async def test_change_listener_reports_every_channel_after_outage(own_server: EmbeddedPostgres) -> None:
    async with ChangeListener(own_server.dsn, [REGISTRY, PLACEMENT]) as changes, open_pool(own_server.dsn) as pool:
        await next_of(changes, 2)
        await own_server.stop()
        with pytest.raises(StoreUnavailable):
            await registry.list_tasks(pool)
        await nothing_more(changes)
        await own_server.start()
        assert await next_of(changes, 2) == {REGISTRY, PLACEMENT}
        await registry.put_task(pool, a_task())
        assert await next_of(changes) == {REGISTRY}


async def test_catalog_watcher_keeps_last_catalog_in_outage(own_server: EmbeddedPostgres) -> None:
    async with open_pool(own_server.dsn) as pool, CatalogWatcher(own_server.dsn) as watcher:
        assert watcher.current.tasks == {}
        await registry.put_task(pool, a_task("digits"))
        async with asyncio.timeout(SOON_S):
            assert list((await watcher.changed()).tasks) == ["digits"]
        await own_server.stop()
        assert list(watcher.current.tasks) == ["digits"]
        await own_server.start()
        await registry.put_task(pool, a_task("mnist"))
        async with asyncio.timeout(SOON_S):
            assert list((await watcher.changed()).tasks) == ["digits", "mnist"]


async def test_catalog_watcher_needs_database_at_start() -> None:
    with pytest.raises(StoreUnavailable):
        async with CatalogWatcher("postgresql://nobody@127.0.0.1:1/none"):
            pass


async def test_leadership_passes_to_next(database: str) -> None:
    second_leads = asyncio.Event()

    async def stand_by() -> None:
        async with Leadership(database, "autoscaler"):
            second_leads.set()

    async with asyncio.TaskGroup() as tasks:
        async with Leadership(database, "autoscaler") as first, Leadership(database, "something else"):
            tasks.create_task(stand_by())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await second_leads.wait()
            assert not first.lost.is_set()
        async with asyncio.timeout(SOON_S):
            await second_leads.wait()


async def test_leader_learns_of_lost_leadership(own_server: EmbeddedPostgres) -> None:
    leadership = Leadership(own_server.dsn, "autoscaler")
    async with leadership:
        await own_server.stop()
        async with asyncio.timeout(SOON_S):
            await leadership.lost.wait()
        with pytest.raises(StoreUnavailable):
            async with leadership.transaction():
                pass
    await own_server.start()
    async with asyncio.timeout(SOON_S), leadership:
        assert not leadership.lost.is_set()


@pytest.mark.parametrize("open_store", [SharedConnection, open_pool])
async def test_connection_is_replaced_after_error_of_server_between_statements(
    database: str, open_store: Callable[[str], AbstractAsyncContextManager[Pool]]
) -> None:
    """A server that restarts says so; the driver may read it before the end of the connection."""
    async with open_store(database) as pool:
        async with pool.connection() as connection:
            protocol: Any = connection._protocol
        protocol.data_received(_error("57P02", "terminating connection because of crash of another server process"))
        with pytest.raises(StoreUnavailable):
            await pool.fetch_value(int, "SELECT 1")
        assert await pool.fetch_value(int, "SELECT 1") == 1


def _error(code: str, message: str) -> bytes:
    """Encode an error of a Postgres server."""
    fields = b"".join(kind + text.encode() + b"\0" for kind, text in ((b"S", "FATAL"), (b"C", code), (b"M", message)))
    return b"E" + struct.pack(">i", 4 + len(fields) + 1) + fields + b"\0"
