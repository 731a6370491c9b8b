"""Tests of builds in a real database: requested, claimed by one worker, released, finished once."""

import asyncio
import os

import pytest

from store.builds import BUILD_CLAIMS, claim_build, count_open_builds, finish_build, forget_builds, get_build, put_build
from store.errors import StoreConflict
from store.pool import Pool

STEP = {"type": "Test"}
SILENT_S = 60.0


async def test_claim_build_gives_build_to_one_worker(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 1)
    claims = await asyncio.gather(*(claim_build(store_pool, "cuda", f"cuda-{n}", SILENT_S) for n in range(4)))
    assert [claim.id for claim in claims if claim] == ["one"]
    assert await claim_build(store_pool, "cpu", "cpu-0", SILENT_S) is None


async def test_claim_build_gives_oldest_first(store_pool: Pool) -> None:
    for number in range(3):
        await put_build(store_pool, f"build-{number}", "cuda", STEP, 1)
    claims = [await claim_build(store_pool, "cuda", f"cuda-{n}", SILENT_S) for n in range(3)]
    assert [claim and claim.id for claim in claims] == ["build-0", "build-1", "build-2"]


async def test_abandoned_build_is_claimed_again(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 1)
    first = await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    assert first is not None
    assert await claim_build(store_pool, "cuda", "cuda-1", SILENT_S) is None
    again = await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    assert again is not None
    assert again.attempts == 2
    third = await claim_build(store_pool, "cuda", "cuda-1", 0.0)
    assert third is not None
    assert third.attempts == 3
    assert [await BUILD_CLAIMS.renew(store_pool, claim) for claim in (first, again, third)] == [False, False, True]


async def test_build_keeps_first_outcome_until_requested_again(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 5)
    await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    assert await finish_build(store_pool, "one", {"value": 1})
    assert not await finish_build(store_pool, "one", {"value": 2})
    for older in (4, 5):
        await put_build(store_pool, "one", "cuda", STEP, older)
    row = await get_build(store_pool, "one")
    assert row is not None
    assert (row.outcome, row.worker) == ({"value": 1}, "cuda-0")
    assert await count_open_builds(store_pool, "cuda") == 0

    await put_build(store_pool, "one", "cuda", STEP, 6)
    row = await get_build(store_pool, "one")
    assert row is not None
    assert (row.outcome, row.worker, row.attempts) == (None, "", 0)
    assert await count_open_builds(store_pool, "cuda") == 1


async def test_put_build_does_not_interrupt_running_build(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 5)
    await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    await put_build(store_pool, "one", "cuda", STEP, 6)
    assert await claim_build(store_pool, "cuda", "cuda-1", SILENT_S) is None
    await finish_build(store_pool, "one", {})
    await put_build(store_pool, "one", "cuda", STEP, 6)
    row = await get_build(store_pool, "one")
    assert row is not None
    assert row.outcome == {}


async def test_forget_builds_deletes_old_builds(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 1)
    await forget_builds(store_pool, 3600.0)
    assert await get_build(store_pool, "one") is not None
    await forget_builds(store_pool, 0.0)
    assert await get_build(store_pool, "one") is None


async def test_put_build_refuses_values_postgres_cannot_store(store_pool: Pool) -> None:
    with pytest.raises(StoreConflict, match="u0000"):
        await put_build(store_pool, "one", "cuda", {"name": "\0"}, 1)
    with pytest.raises(StoreConflict, match="index row"):
        await put_build(store_pool, os.urandom(8000).hex(), "cuda", {}, 1)
    with pytest.raises(StoreConflict, match="out of int64 range"):
        await put_build(store_pool, "one", "cuda", {}, 2**70)
