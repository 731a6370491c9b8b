"""Tests of migrations: safe when concurrent; databases of other versions are refused."""

import asyncio

import pytest

from schemas.errors import OperatorError
from store.errors import StoreUnavailable
from store.migrate import upgrade
from store.pool import Pool, open_pool
from store.version import require_current


async def test_concurrent_upgrades_run_once(store_pool: Pool, database: str) -> None:
    await store_pool.execute("DROP SCHEMA public CASCADE")
    await store_pool.execute("CREATE SCHEMA public")
    with pytest.raises(OperatorError, match="infaas db upgrade"):
        await require_current(store_pool)
    async with asyncio.TaskGroup() as tasks:
        upgrades = [tasks.create_task(upgrade(database)) for _ in range(4)]
    assert len({done.result() for done in upgrades}) == 1
    await require_current(store_pool)
    assert await store_pool.fetch_value(int, "SELECT count(*) FROM alembic_version") == 1


async def test_upgrade_refuses_newer_database(store_pool: Pool, database: str) -> None:
    await store_pool.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(OperatorError, match="newer version"):
        await upgrade(database)
    with pytest.raises(OperatorError, match="9999, newer than"):
        await require_current(store_pool)


async def test_upgrade_without_server_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="INFAAS_POSTGRES"):
        await upgrade("postgresql://nobody@127.0.0.1:1/none")


async def test_invalid_dsn_is_operator_error(database: str) -> None:
    for wrong in (database + "_not", "mysql://127.0.0.1/infaas"):
        with pytest.raises(OperatorError, match="INFAAS_POSTGRES"):
            async with open_pool(wrong):
                pass
