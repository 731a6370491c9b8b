"""Tests of versions: each relevant change is a version, which serves when it is complete unless it is held."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.kafka.settings import KafkaSettings
from registry.versions import ModelVersion, canary, rolled_back, take_over
from schemas.errors import OperatorError
from schemas.versions import Rollout, VersionEventKind, versions_of
from store.catalog import CatalogWatcher, load_catalog
from store.errors import StoreConflict
from store.pool import Pool
from store.registry import list_architectures, list_variants
from store.rollouts import change_rollout, get_rollout, list_events, list_versions
from tests.integration.registry.conftest import Register
from tests.store_queries import delete_architecture

DECLARED: dict[str, Any] = {"validation": None, "variants": ("onnx-fp32",)}


async def test_each_change_is_version_with_own_variants(
    run: Register, store_pool: Pool, make_model: Callable[..., Path]
) -> None:
    file = make_model()
    await run(**DECLARED, file=file, accuracy=0.8)
    assert await get_rollout(store_pool, "linear") is None
    await run(**DECLARED, file=file, accuracy=0.7)
    other = make_model("other.onnx", weights=np.ones((4, 3), np.float32))
    third = await run(**DECLARED, file=other, accuracy=0.7, max_batch=8, asked_by="ann@here")
    assert [v.name for v in third] == ["linear-v3.onnx-fp32.cpu"]
    assert [(row.version, row.name) for row in await list_versions(store_pool, "linear")] == [
        (1, "linear"), (2, "linear-v2"), (3, "linear-v3"),
    ]  # fmt: skip
    rollout = await get_rollout(store_pool, "linear")
    assert rollout is not None
    assert (rollout.serving, rollout.previous, rollout.candidate) == (3, 2, None)
    registered = [e for e in await list_events(store_pool, "linear") if e.kind is VersionEventKind.REGISTERED]
    assert [event.version for event in registered] == [1, 2, 3]
    assert registered[1].detail == "accuracy 0.8 -> 0.7"
    assert "file " in registered[2].detail
    assert "max-batch 4 -> 8" in registered[2].detail
    assert registered[2].by == "ann@here"


@pytest.mark.needs_minutes
async def test_register_again_finds_any_version(run: Register, store_pool: Pool, progress: Any) -> None:
    await run(**DECLARED, accuracy=0.8)
    await run(**DECLARED, accuracy=0.7)
    progress.steps.clear()
    assert [v.name for v in await run(**DECLARED, accuracy=0.8)] == ["linear.onnx-fp32.cpu"]
    assert [step[2] for step in progress.steps] == ["linear is registered already"]
    rollout = await get_rollout(store_pool, "linear")
    assert rollout is not None
    assert rollout.serving == 2
    with pytest.raises(OperatorError, match=r"linear-v2 is version 2 of linear.*--name linear"):
        await run(**DECLARED, architecture="linear-v2", accuracy=0.6)


@pytest.mark.needs_minutes
async def test_version_waits_if_held_or_beside_canary(run: Register, store_pool: Pool) -> None:
    await run(**DECLARED, accuracy=0.8)
    await run(**DECLARED, accuracy=0.7, hold=True)
    rollout = await get_rollout(store_pool, "linear")
    assert rollout is not None
    assert (rollout.serving, rollout.candidate) == (1, None)
    catalog = await load_catalog(store_pool)
    versions = versions_of(catalog.architectures, catalog.rollouts)
    assert versions.targets_of("linear") == {None, "linear", "linear@1"}
    assert versions.targets_of("linear-v2") == {"linear-v2", "linear@2"}
    await change_rollout(store_pool, rollout, *canary(rollout, 2, 0.05, "ann@here"))
    await run(**DECLARED, accuracy=0.6)
    after = await get_rollout(store_pool, "linear")
    assert after is not None
    assert (after.serving, after.candidate, after.share) == (1, 2, 0.05)


async def test_rollback_reaches_catalog_watchers(run: Register, store_pool: Pool, database: str) -> None:
    await run(**DECLARED, accuracy=0.8)
    await run(**DECLARED, accuracy=0.7)
    async with CatalogWatcher(database) as watcher:
        before = watcher.current.rollouts["linear"]
        await change_rollout(store_pool, before, *rolled_back(before, "ann@here"))
        after = (await watcher.changed()).rollouts["linear"]
        assert (after.serving, after.previous) == (1, None)
        with pytest.raises(StoreConflict, match="changed meanwhile"):
            await change_rollout(store_pool, before, *rolled_back(before, "bob@there"))
        events = await list_events(store_pool, "linear")
        assert [(e.version, e.kind, e.by) for e in events[-1:]] == [(2, VersionEventKind.ROLLED_BACK, "ann@here")]


async def test_deleted_version_ends_canary(run: Register, store_pool: Pool, kafka: KafkaSettings) -> None:
    await run(**DECLARED, accuracy=0.8)
    await run(**DECLARED, accuracy=0.7, hold=True)
    rollout = await get_rollout(store_pool, "linear")
    assert rollout is not None
    await change_rollout(store_pool, rollout, *canary(rollout, 2, 0.5, ""))
    assert await delete_architecture(store_pool, "linear-v2")
    left = await get_rollout(store_pool, "linear")
    assert left is not None
    assert left == Rollout(model="linear", serving=1, changed_at=left.changed_at)
    assert [row.name for row in await list_architectures(store_pool)] == ["linear"]
    assert [v.name for v in await list_variants(store_pool)] == ["linear.onnx-fp32.cpu"]


async def _serving(pool: Pool) -> int:
    rollout = await get_rollout(pool, "linear")
    assert rollout is not None
    return rollout.serving


@pytest.mark.needs_minutes
async def test_rolled_back_version_stays_back_with_new_variant(run: Register, store_pool: Pool) -> None:
    await run(**DECLARED, accuracy=0.8)
    await run(**DECLARED, accuracy=0.7)
    rollout = await get_rollout(store_pool, "linear")
    assert rollout is not None
    await change_rollout(store_pool, rollout, *rolled_back(rollout, "ann@here"))
    both = ("onnx-fp32", "openvino-fp32")
    made = await run(**{**DECLARED, "variants": both}, accuracy=0.7)
    assert {variant.name for variant in made} == {f"linear-v2.{label}.cpu" for label in both}
    assert await _serving(store_pool) == 1


async def test_interrupted_version_serves_after_reregistration(
    run: Register, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(**DECLARED, accuracy=0.8)
    with monkeypatch.context() as patch:

        async def killed(*_: object) -> str:
            raise asyncio.CancelledError

        patch.setattr("registry.register.take_over", killed)
        with pytest.raises(asyncio.CancelledError):
            await run(**DECLARED, accuracy=0.7)
    assert await _serving(store_pool) == 1
    await run(**DECLARED, accuracy=0.7)
    assert await _serving(store_pool) == 2


async def test_two_registrations_of_one_version_take_over_once(run: Register, store_pool: Pool) -> None:
    await run(**DECLARED, accuracy=0.8)
    await run(**DECLARED, accuracy=0.7, hold=True)
    version = ModelVersion(model="linear", number=2, architecture="linear-v2")
    notes = await asyncio.gather(*(take_over(store_pool, version, "ann@here") for _ in range(8)))
    assert sorted(filter(None, notes)) == ["version 2 of linear serves from now on; `infaas rollback linear` undoes it"]
    assert await _serving(store_pool) == 2
