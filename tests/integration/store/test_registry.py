"""Tests of the registry tables: rows are read as written, and the constraints hold."""

import msgspec
import pytest

from schemas.rows.catalog import Profile, VariantState
from store import registry
from store.catalog import load_catalog
from store.errors import StoreConflict
from store.pool import Pool
from tests.example_rows import OUTPUT, a_profile, a_task, a_variant, an_architecture, register
from tests.store_queries import delete_architecture, delete_task, set_variant_state


async def test_registry_returns_rows_as_written(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu", "mlp.onnx-int8.cpu")
    catalog = await load_catalog(store_pool)
    assert msgspec.structs.replace(catalog.tasks["digits"], created_at=None) == a_task()
    assert msgspec.structs.replace(catalog.architectures["mlp"], created_at=None) == an_architecture()
    assert msgspec.structs.replace(catalog.variants["mlp.onnx-fp32.cpu"], created_at=None) == a_variant()
    assert msgspec.structs.replace(catalog.profiles["mlp.onnx-fp32.cpu"], created_at=None) == a_profile()
    assert list(catalog.profiles) == ["mlp.onnx-fp32.cpu", "mlp.onnx-int8.cpu"]
    assert catalog.tasks["digits"].created_at is not None


async def test_registry_put_again_changes_nothing(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    before = await load_catalog(store_pool)
    await put_all_again(store_pool)
    after = await load_catalog(store_pool)
    assert after.tasks == before.tasks
    assert after.architectures == before.architectures
    assert after.variants == before.variants


async def put_all_again(pool: Pool) -> None:
    await register(pool, "mlp.onnx-fp32.cpu")


async def test_put_task_refuses_another_signature(store_pool: Pool) -> None:
    await registry.put_task(store_pool, a_task())
    other = msgspec.structs.replace(a_task(), inputs=(OUTPUT,))
    with pytest.raises(StoreConflict, match="another signature"):
        await registry.put_task(store_pool, other)


async def test_put_architecture_refuses_another_source(store_pool: Pool) -> None:
    await registry.put_task(store_pool, a_task())
    await registry.put_architecture(store_pool, an_architecture())
    with pytest.raises(StoreConflict, match="another file or task: register again"):
        await registry.put_architecture(store_pool, msgspec.structs.replace(an_architecture(), source="cd" * 32))


async def test_tasks_and_architectures_share_one_namespace(store_pool: Pool) -> None:
    await registry.put_task(store_pool, a_task("digits"))
    with pytest.raises(StoreConflict):
        await registry.put_architecture(store_pool, an_architecture("digits"))
    await registry.put_architecture(store_pool, an_architecture("mlp"))
    with pytest.raises(StoreConflict):
        await registry.put_task(store_pool, a_task("mlp"))
    assert [task.name for task in await registry.list_tasks(store_pool)] == ["digits"]


async def test_ready_variant_needs_profile(store_pool: Pool) -> None:
    await registry.put_task(store_pool, a_task())
    await registry.put_architecture(store_pool, an_architecture())
    with pytest.raises(StoreConflict, match="without a profile"):
        await registry.put_variant(store_pool, a_variant(state=VariantState.READY))
    await registry.put_variant(store_pool, a_variant(state=VariantState.VERIFIED))
    with pytest.raises(StoreConflict, match="without a profile"):
        await set_variant_state(store_pool, "mlp.onnx-fp32.cpu", VariantState.READY)
    await registry.put_profile(store_pool, a_profile())
    await set_variant_state(store_pool, "mlp.onnx-fp32.cpu", VariantState.READY)
    with pytest.raises(StoreConflict, match="without a profile"):
        await store_pool.execute("DELETE FROM profiles")
    assert list((await load_catalog(store_pool)).variants) == ["mlp.onnx-fp32.cpu"]


async def test_catalog_contains_only_ready_variants(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    await set_variant_state(store_pool, "mlp.onnx-fp32.cpu", VariantState.REFUSED, "wrong outputs")
    catalog = await load_catalog(store_pool)
    assert (catalog.variants, catalog.profiles) == ({}, {})
    [variant] = await registry.list_variants(store_pool, task="digits")
    assert (variant.state, variant.reason) == (VariantState.REFUSED, "wrong outputs")


@pytest.mark.parametrize(
    "wrong",
    [{"accuracy": 1.01}, {"accuracy": -0.1}, {"accuracy": float("nan")}, {"samples": 0}, {"load_s": float("inf")}],
    ids=str,
)
async def test_put_profile_refuses_values_out_of_range(store_pool: Pool, wrong: dict[str, float]) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    profile: Profile = msgspec.structs.replace(a_profile(), **wrong)
    with pytest.raises(StoreConflict):
        await registry.put_profile(store_pool, profile)


async def test_put_variant_keeps_a_ready_one_if_asked(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    [ready], [profile] = await registry.list_variants(store_pool), await registry.list_profiles(store_pool)
    other = msgspec.structs.replace(a_variant(state=VariantState.VERIFIED), artifact="b" * 64)
    await registry.put_variant(store_pool, other, a_profile(accuracy=0.5), unless_ready=True)
    assert await registry.list_variants(store_pool) == [ready]
    assert await registry.list_profiles(store_pool) == [profile]
    await set_variant_state(store_pool, ready.name, VariantState.GENERATED)
    await registry.put_variant(store_pool, other, a_profile(accuracy=0.5), unless_ready=True)
    [put] = await registry.list_variants(store_pool)
    assert (put.state, put.artifact) == (VariantState.VERIFIED, "b" * 64)
    [profile] = await registry.list_profiles(store_pool)
    assert profile.accuracy == 0.5
    with pytest.raises(StoreConflict, match="belongs to another architecture or task"):
        await registry.put_variant(store_pool, msgspec.structs.replace(other, task="mnist"), unless_ready=True)


async def test_variant_must_match_architectures_task(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    await registry.put_task(store_pool, a_task("mnist"))
    with pytest.raises(StoreConflict):
        await registry.put_variant(store_pool, a_variant("mlp.onnx-int8.cpu", task="mnist"))
    with pytest.raises(StoreConflict):
        await registry.put_variant(store_pool, a_variant("other.onnx-int8.cpu"))


async def test_delete_frees_names(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    assert await delete_task(store_pool, "digits")
    assert not await delete_task(store_pool, "digits")
    await registry.put_task(store_pool, a_task("mlp"))
    await registry.put_architecture(store_pool, an_architecture("digits", task="mlp"))
    assert await delete_architecture(store_pool, "digits")
    assert await registry.list_architectures(store_pool) == []


async def test_put_variant_never_reduces_partitions(store_pool: Pool) -> None:
    await register(store_pool, "mlp.onnx-fp32.cpu")
    fewer = msgspec.structs.replace(a_variant(), partitions=2, max_batch=8)
    await registry.put_variant(store_pool, fewer)
    variant = await registry.get_variant(store_pool, "mlp.onnx-fp32.cpu")
    assert variant is not None
    assert (variant.partitions, variant.max_batch) == (4, 8)
