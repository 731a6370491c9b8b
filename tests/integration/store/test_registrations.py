"""Tests of the rows of registrations and uploads: claims, limits per tenant, and cleanup."""

import msgspec
import pytest

from schemas.rows.registrations import NewRegistration, RegistrationProgress
from store.claims import ClaimKey
from store.pool import Pool
from store.registrations import (
    REGISTRATION_CLAIMS,
    cancel_registration,
    claim_registration,
    get_registration,
    list_registrations,
    note_progress,
    put_registration,
    registration_to_do,
)
from store.uploads import give_up_upload, reserve_upload, sweep_uploads, upload_arrived

ONE, OTHER = "1" * 64, "2" * 64


def a_registration(number: str, tenant: str = "acme", *, publisher: bool = True) -> NewRegistration:
    return NewRegistration(
        id=number, kind="model", name="m", tenant=tenant, publisher=publisher, asked_by="key:1", origin="http",
        request={"name": "m"}, uploads=(),
    )  # fmt: skip


async def put(pool: Pool, *rows: NewRegistration) -> None:
    for row in rows:
        assert await put_registration(pool, row, most_open=10)


async def claimed(pool: Pool, worker: str = "one") -> str | None:
    claim = await claim_registration(pool, worker, 60, 1)
    return claim and claim.id


async def test_interrupted_registration_counts_no_attempt(store_pool: Pool) -> None:
    """Interruptions, such as an outage of Kafka of any length, do not count as attempts."""
    assert await put_registration(store_pool, a_registration("1"), most_open=1)
    for reason in ("", "", "it crashed", ""):
        claim = await claim_registration(store_pool, "one", 60, 1)
        assert claim is not None
        await REGISTRATION_CLAIMS.release(store_pool, claim, reason)
    last = await claim_registration(store_pool, "one", 60, 1)
    assert last is not None
    assert (last.epoch, last.attempts, last.crashes, last.reason) == (5, 2, 1, "it crashed")


async def test_claim_leaves_room_for_other_tenants(store_pool: Pool) -> None:
    """A registration that waits for a worker occupies its registrar until there is one."""
    theirs = [a_registration(number) for number in ("3", "1", "2")]
    await put(
        store_pool, *theirs, a_registration("4", "globex"), *(a_registration(n, "", publisher=False) for n in "56")
    )
    assert [row.id for row in await list_registrations(store_pool)] == ["6", "5", "4", "2", "1", "3"], "latest first"
    assert [await claimed(store_pool) for _ in range(5)] == ["3", "4", "5", "6", None]
    assert await claimed(store_pool, "another") == "1"


async def test_claim_limits_registrations_that_wait_for_worker(store_pool: Pool) -> None:
    """The limit holds for all tenants together, because such a worker may never start."""
    waiting = [
        msgspec.structs.replace(a_registration(number, tenant), request={"if_no_worker": "wait"})
        for number, tenant in (("1", "acme"), ("2", "globex"))
    ]
    await put(store_pool, *waiting, a_registration("3", "initech"))
    assert [await claimed(store_pool) for _ in range(3)] == ["1", "3", None]
    assert await claimed(store_pool, "another") == "2"


async def test_list_registrations_omits_long_fields(store_pool: Pool) -> None:
    await put(store_pool, a_registration("1"))
    assert await claimed(store_pool) == "1"
    notes = ("a note",) * 200
    assert await note_progress(store_pool, ClaimKey("1", 1), RegistrationProgress(1, 2, "measuring", notes))
    shown, [listed] = await get_registration(store_pool, "1"), await list_registrations(store_pool)
    assert shown is not None
    assert (shown.notes, shown.made) == (notes, ())
    fields = msgspec.to_builtins(shown)
    assert msgspec.to_builtins(listed) == {name: fields[name] for name in fields.keys() - {"notes", "made"}}


async def test_ended_registration_drops_request(store_pool: Pool) -> None:
    """A cancelled registration counts against no limit, so its row must be small."""
    await put(store_pool, a_registration("1"))
    assert await claimed(store_pool) == "1"
    assert await registration_to_do(store_pool, "1") is not None
    assert await cancel_registration(store_pool, "1")
    assert await registration_to_do(store_pool, "1") is None
    assert await store_pool.fetch_value(str, "SELECT request::text FROM registrations") == "{}"


async def test_upload_reservation_limits_bytes_of_tenant(store_pool: Pool) -> None:
    """Two uploads of one file share a reservation; the first failure releases it."""
    assert await reserve_upload(store_pool, "acme", ONE, 10, 10)
    await give_up_upload(store_pool, "acme", ONE)
    assert await reserve_upload(store_pool, "acme", OTHER, 10, 10)
    assert await upload_arrived(store_pool, "acme", ONE, 10, 10) is None
    assert await upload_arrived(store_pool, "acme", OTHER, 10, 10)


async def test_upload_reservation_limits_files_of_tenant(store_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of bytes alone would allow a file per byte. A file that exists may be sent again."""
    monkeypatch.setattr("store.uploads.MOST_FILES", 1)
    assert await reserve_upload(store_pool, "acme", ONE, 1, 10)
    assert await upload_arrived(store_pool, "acme", ONE, 1, 10)
    assert await reserve_upload(store_pool, "acme", OTHER, 1, 10) is None
    assert await upload_arrived(store_pool, "acme", OTHER, 1, 10) is None
    assert await reserve_upload(store_pool, "acme", ONE, 1, 10)
    assert await reserve_upload(store_pool, "globex", OTHER, 1, 10)


async def test_upload_file_is_deleted_with_last_complete_row(store_pool: Pool) -> None:
    """The row of an upload that has only begun does not keep the file."""
    gone = list[str]()

    async def discard(sha256: str) -> None:
        gone.append(sha256)

    for sha256 in (ONE, OTHER):
        assert await upload_arrived(store_pool, "acme", sha256, 1, 10)
    await store_pool.execute("UPDATE uploads SET used_at = used_at - interval '1 hour'")
    assert await reserve_upload(store_pool, "globex", ONE, 1, 10)
    assert await upload_arrived(store_pool, "globex", OTHER, 1, 10)
    assert await sweep_uploads(store_pool, 60, discard) == 2
    assert gone == [ONE]
