"""Builds in a real database: asked for once or more, claimed by one, given back, ended once."""

import asyncio
import os

import pytest

from store.builds import (
    claim_build,
    count_open_builds,
    finish_build,
    forget_builds,
    get_build,
    put_build,
    release_build,
    renew_build,
)
from store.errors import StoreConflict
from store.pool import Pool

STEP = {"type": "Test"}
SILENT_S = 60.0


async def test_of_several_workers_one_gets_a_build(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 1)
    claims = await asyncio.gather(*(claim_build(store_pool, "cuda", f"cuda-{n}", SILENT_S) for n in range(4)))
    assert [claim.id for claim in claims if claim] == ["one"]
    assert await claim_build(store_pool, "cpu", "cpu-0", SILENT_S) is None


async def test_each_worker_gets_another_build_the_oldest_first(store_pool: Pool) -> None:
    for number in range(3):
        await put_build(store_pool, f"build-{number}", "cuda", STEP, 1)
    claims = [await claim_build(store_pool, "cuda", f"cuda-{n}", SILENT_S) for n in range(3)]
    assert [claim and claim.id for claim in claims] == ["build-0", "build-1", "build-2"]


async def test_what_a_worker_left_is_begun_again_by_its_successor_and_by_others_once_it_is_silent(
    store_pool: Pool,
) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 1)
    await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    assert await claim_build(store_pool, "cuda", "cuda-1", SILENT_S) is None
    again = await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    assert again is not None
    assert again.attempts == 2
    third = await claim_build(store_pool, "cuda", "cuda-1", 0.0)
    assert third is not None
    assert third.attempts == 3
    assert not await renew_build(store_pool, "one", "cuda-0")
    assert await renew_build(store_pool, "one", "cuda-1")


async def test_an_attempt_that_failed_counts_and_one_that_was_interrupted_does_not(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 1)
    await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    await release_build(store_pool, "one", "cuda-0")
    await claim_build(store_pool, "cuda", "cuda-1", SILENT_S)
    await release_build(store_pool, "one", "cuda-1", "it crashed")
    claim = await claim_build(store_pool, "cuda", "cuda-2", SILENT_S)
    assert claim is not None
    assert (claim.attempts, claim.reason) == (2, "it crashed")


async def test_the_first_outcome_stays_until_the_build_is_asked_for_anew(store_pool: Pool) -> None:
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


async def test_a_request_for_what_is_being_done_interrupts_nothing(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 5)
    await claim_build(store_pool, "cuda", "cuda-0", SILENT_S)
    await put_build(store_pool, "one", "cuda", STEP, 6)
    assert await claim_build(store_pool, "cuda", "cuda-1", SILENT_S) is None
    await finish_build(store_pool, "one", {})
    await put_build(store_pool, "one", "cuda", STEP, 6)
    row = await get_build(store_pool, "one")
    assert row is not None
    assert row.outcome == {}


async def test_what_nobody_has_asked_for_in_a_long_time_is_forgotten(store_pool: Pool) -> None:
    await put_build(store_pool, "one", "cuda", STEP, 1)
    await forget_builds(store_pool, 3600.0)
    assert await get_build(store_pool, "one") is not None
    await forget_builds(store_pool, 0.0)
    assert await get_build(store_pool, "one") is None


async def test_what_postgres_can_keep_in_no_row_is_refused_for_good(store_pool: Pool) -> None:
    with pytest.raises(StoreConflict, match="u0000"):
        await put_build(store_pool, "one", "cuda", {"name": "\0"}, 1)
    with pytest.raises(StoreConflict, match="index row"):
        await put_build(store_pool, os.urandom(8000).hex(), "cuda", {}, 1)
    with pytest.raises(StoreConflict, match="out of int64 range"):
        await put_build(store_pool, "one", "cuda", {}, 2**70)
