"""Tests of access rows: deleted with their names, and announced to catalog watchers."""

import asyncio

import pytest
from msgspec.structs import replace

from schemas.access import PUBLIC, Access, Visibility
from schemas.catalog import Catalog
from store.catalog import CatalogWatcher, load_catalog, update_catalog
from store.errors import StoreConflict
from store.pool import Pool
from store.registry import put_architecture
from store.tenants import begin_access, get_access, list_access, set_access
from tests.example_rows import an_architecture, register
from tests.store_queries import delete_architecture, delete_task
from tests.waiting import PATIENCE_S

PRIVATE = Access(owner="acme", visibility=Visibility.PRIVATE)
SHARED = Access(owner="acme", visibility=Visibility.SHARED, shared_with=frozenset({"globex", "initech"}))


async def test_access_is_public_without_owner_by_default(store_pool: Pool, database: str) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    async with CatalogWatcher(database) as catalogs:
        assert catalogs.current.access == {}
        assert await get_access(store_pool, "mlp") == PUBLIC
        for access in (PRIVATE, SHARED, Access(owner="acme")):
            await set_access(store_pool, "mlp", access)
            assert await list_access(store_pool) == {"mlp": access}
            async with asyncio.timeout(PATIENCE_S):
                while (await catalogs.changed()).access != {"mlp": access}:
                    pass


async def test_begin_access_keeps_first_value(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    await begin_access(store_pool, "mlp", PRIVATE)
    await begin_access(store_pool, "mlp", SHARED)
    assert await get_access(store_pool, "mlp") == PRIVATE


async def test_access_is_deleted_with_last_version_or_task(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    await put_architecture(store_pool, replace(an_architecture("mlp-v2"), model="mlp", version=2))
    await set_access(store_pool, "mlp", PRIVATE)
    await set_access(store_pool, "digits", SHARED)
    await delete_architecture(store_pool, "mlp")
    assert await get_access(store_pool, "mlp") == PRIVATE, "of its other version"
    await delete_architecture(store_pool, "mlp-v2")
    assert set(await list_access(store_pool)) == {"digits"}
    await delete_task(store_pool, "digits")
    assert await list_access(store_pool) == {}
    with pytest.raises(StoreConflict, match="no task or model"):
        await set_access(store_pool, "digits", PRIVATE)


async def test_catalog_update_always_includes_access(store_pool: Pool) -> None:
    """One part of a change may be announced before the rest."""
    await register(store_pool, "mlp.onnx-fp32.cpu")
    await put_architecture(store_pool, replace(an_architecture("mlp-v2"), model="mlp", version=2))
    await set_access(store_pool, "mlp", PRIVATE)
    await set_access(store_pool, "digits", SHARED)
    for said in ("variants mlp.onnx-fp32.cpu", "architectures mlp-v2"):
        seen = await update_catalog(store_pool, Catalog(), [said])
        assert seen.access["mlp"] == PRIVATE, said
    assert (await update_catalog(store_pool, Catalog(), ["tasks digits"])).access == {"digits": SHARED}
    whole = await load_catalog(store_pool)
    await delete_architecture(store_pool, "mlp")
    await delete_architecture(store_pool, "mlp-v2")
    left = await update_catalog(store_pool, whole, ["access mlp"])
    assert (left.architectures, left.variants, left.access) == ({}, {}, {"digits": SHARED})
