"""Migration of a database, also concurrently, and refusal of tables of other versions."""

import asyncio

import pytest

from schemas.errors import OperatorError
from store.errors import StoreUnavailable
from store.migrate import HEAD, require_current, upgrade
from store.pool import Pool, open_pool


async def test_upgrade_runs_once_for_concurrent_callers(store_pool: Pool, database: str) -> None:
    await store_pool.execute("DROP SCHEMA public CASCADE")
    await store_pool.execute("CREATE SCHEMA public")
    with pytest.raises(OperatorError, match="infaas db upgrade"):
        await require_current(store_pool)
    async with asyncio.TaskGroup() as tasks:
        upgrades = [tasks.create_task(upgrade(database)) for _ in range(4)]
    assert {done.result() for done in upgrades} == {HEAD}
    await require_current(store_pool)
    assert await store_pool.fetch_value(int, "SELECT count(*) FROM alembic_version") == 1


@pytest.mark.parametrize("version", ["0034", "9999"], ids=["before the first release", "newer"])
async def test_upgrade_refuses_unknown_versions(store_pool: Pool, database: str, version: str) -> None:
    await store_pool.execute("UPDATE alembic_version SET version_num = $1", version)
    remedies = f"at version {version}.*use that version.*to an empty database.*register the models again"
    with pytest.raises(OperatorError, match=remedies):
        await upgrade(database)
    with pytest.raises(OperatorError, match=remedies):
        await require_current(store_pool)


async def test_require_current_refuses_older_versions(store_pool: Pool) -> None:
    await store_pool.execute("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(OperatorError, match=r"at version 0000.*infaas db upgrade"):
        await require_current(store_pool)


async def test_upgrade_without_a_server_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="INFAAS_POSTGRES"):
        await upgrade("postgresql://nobody@127.0.0.1:1/none")


async def test_invalid_dsn_is_operator_error(database: str) -> None:
    for wrong in (database + "_not", "mysql://127.0.0.1/infaas"):
        with pytest.raises(OperatorError, match="INFAAS_POSTGRES"):
            async with open_pool(wrong):
                pass
