"""Claims of registrations, builds and removals: fencing, expiry, and the count of attempts."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from schemas.access import ANYONE
from schemas.rows.registrations import NewRegistration
from schemas.rows.removals import RemovalRequest
from store.builds import BUILD_CLAIMS, put_build
from store.claims import Claims
from store.pool import Pool
from store.registrations import REGISTRATION_CLAIMS, put_registration
from store.removals import REMOVAL_CLAIMS, put_removal

SILENT_S = 60.0


async def put_one_registration(pool: Pool) -> None:
    row = NewRegistration(
        id="1", kind="model", name="m", tenant="", publisher=False, asked_by="", origin="", request={}, uploads=()
    )
    assert await put_registration(pool, row, most_open=1)


async def put_one_build(pool: Pool) -> None:
    await put_build(pool, "1", "cuda", {}, 1)


async def put_one_removal(pool: Pool) -> None:
    await put_removal(pool, RemovalRequest(name="m"), ANYONE, "key:1", "http")


class Case(NamedTuple):
    """A table with claims."""

    table: str
    claims: Claims[Any]
    put: Callable[[Pool], Awaitable[None]]
    options: tuple[object, ...]
    progress: tuple[object, ...]
    outcome: tuple[Any, ...]

    async def claim(self, pool: Pool, worker: str, silent_s: float = SILENT_S) -> Any:
        return await self.claims.claim(pool, worker, silent_s, *self.options)


CASES = (
    Case("registrations", REGISTRATION_CLAIMS, put_one_registration, (1,), (1, 2, "", []), ("failed", "", "", [])),
    Case("builds", BUILD_CLAIMS, put_one_build, ("cuda",), (), ()),
    Case("removals", REMOVAL_CLAIMS, put_one_removal, (), (1, 2, "step"), ("failed", "", None)),
)


@pytest.fixture(params=CASES, ids=[case.table for case in CASES])
async def case(request: pytest.FixtureRequest, store_pool: Pool) -> Case:
    await request.param.put(store_pool)
    return request.param


async def test_claim_of_a_released_row_fences_its_former_owner(case: Case, store_pool: Pool) -> None:
    former = await case.claim(store_pool, "one")
    await case.claims.release(store_pool, former)
    present = await case.claim(store_pool, "one")
    assert (present.id, present.epoch, present.attempts) == (former.id, 2, 1)
    assert not await case.claims.renew(store_pool, former, *case.progress)
    await case.claims.release(store_pool, former)
    if case.outcome:
        assert not await case.claims.complete(store_pool, former, *case.outcome)
    assert await case.claims.renew(store_pool, present, *case.progress)


async def test_claim_expires_without_renewal(case: Case, store_pool: Pool) -> None:
    former = await case.claim(store_pool, "one")
    assert await case.claim(store_pool, "other") is None
    await store_pool.execute(f"UPDATE {case.table} SET changed_at = changed_at - interval '1 hour'")
    assert await case.claims.renew(store_pool, former)
    assert await case.claim(store_pool, "other") is None
    await store_pool.execute(f"UPDATE {case.table} SET changed_at = changed_at - interval '1 hour'")
    present = await case.claim(store_pool, "other")
    assert (present.epoch, present.attempts) == (2, 2)
    assert not await case.claims.renew(store_pool, former)


async def test_release_counts_attempts_that_were_not_interrupted(case: Case, store_pool: Pool) -> None:
    for reason in ("", "it crashed", ""):
        await case.claims.release(store_pool, await case.claim(store_pool, "one"), reason)
    last = await case.claim(store_pool, "one")
    assert (last.epoch, last.attempts) == (4, 2)
    reason = f"SELECT reason FROM {case.table}"
    assert await store_pool.fetch_value(str, reason) == "it crashed"


@pytest.mark.parametrize("case", [case for case in CASES if case.outcome], ids=lambda case: case.table)
async def test_complete_ends_a_row_once(case: Case, store_pool: Pool) -> None:
    """Builds differ: they keep the first outcome of any worker."""
    await case.put(store_pool)
    claim = await case.claim(store_pool, "one")
    assert await case.claims.complete(store_pool, claim, *case.outcome)
    assert not await case.claims.complete(store_pool, claim, *case.outcome)
    assert not await case.claims.renew(store_pool, claim)
    assert await case.claim(store_pool, "one", 0.0) is None
