"""Registrations through the admin API: stored, claimed by a registrar (`claims`), and executed once; and their uploads.

A cancelled registration ends at once, and its registrar learns this at its next renewal.

A file is stored once, even if several tenants have it; a row records that a tenant has sent it. Space is reserved
before the first byte arrives and checked again before the file is stored, because two uploads of the same file share a
row and the first that fails cancels the reservation. No file is stored without a row. Unused files are deleted in small
groups, under a lock that prevents new uses.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import msgspec

from schemas.registrations import ListedRegistration, RegisteredVariant, RegistrationState, RegistrationStatus
from schemas.rows.registrations import (
    ClaimedRegistration,
    NewRegistration,
    RegistrationProgress,
    RegistrationToDo,
    Upload,
)
from store.claims import Claim, Claims
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool, load_queries

_queries = load_queries("registrations")
_PUT: Final = _queries["put_registration"]
_COUNT_OPEN: Final = _queries["count_open"]
_LOCK_TENANT: Final = _queries["lock_tenant"]
_TO_DO: Final = _queries["registration_to_do"]
_CANCEL: Final = _queries["cancel_registration"]
_GET: Final = _queries["get_registration"]
_LIST: Final = _queries["list_registrations"]
_FORGET: Final = _queries["forget_registrations"]
_RESERVE: Final = _queries["reserve_upload"]
_ARRIVED: Final = _queries["upload_arrived"]
_GIVE_UP: Final = _queries["give_up_upload"]
_LIST_UPLOADS: Final = _queries["list_uploads"]
_USE: Final = _queries["use_uploads"]
_BYTES: Final = _queries["upload_bytes"]
_LOCK: Final = _queries["lock_uploads"]
_TAKE_UNUSED: Final = _queries["take_unused_uploads"]
_KEPT: Final = _queries["kept_uploads"]
REGISTRATION_CLAIMS: Final = Claims("registrations", ClaimedRegistration, _queries)
MOST_FILES: Final = 10_000
"""Maximum number of uploads of a tenant. It limits the cost per file, which does not depend on the size."""
_AT_ONCE: Final = 10
"""Files that are deleted under one lock."""


async def put_registration(pool: Pool, row: NewRegistration, most_open: int) -> bool:
    """Store a registration and mark its uploads as used; return false if its tenant has `most_open` open ones.

    Raises:
        StoreConflict: an upload is missing.
    """
    async with pool.transaction() as session:
        await session.execute(_LOCK_TENANT, row.tenant)
        if (await session.fetch_value(int, _COUNT_OPEN, row.tenant) or 0) >= most_open:
            return False
        there = await use_uploads(session, row.tenant, row.uploads)
        missing = set(row.uploads) - there
        if missing:
            raise StoreConflict(f"there is no upload {min(missing)}: upload the file first")
        await session.execute(_PUT, *(getattr(row, name) for name in NewRegistration.__struct_fields__))
    return True


async def claim_registration(
    session: DatabaseSession, worker: str, silent_s: float, most_alike: int
) -> ClaimedRegistration | None:
    """Claim a waiting registration, or one whose registrar has been silent for `silent_s`; None: there is none.

    A registrar runs at most `most_alike` registrations of the publishers of one tenant, and at most `most_alike` that
    wait for a worker of their hardware.
    """
    return await REGISTRATION_CLAIMS.claim(session, worker, silent_s, most_alike)


async def registration_to_do(session: DatabaseSession, registration: str) -> RegistrationToDo | None:
    """Return the data of a claimed registration; None: it has ended, or was cancelled."""
    return await session.fetch_one(RegistrationToDo, _TO_DO, registration)


async def note_progress(session: DatabaseSession, claim: Claim, progress: RegistrationProgress) -> bool:
    """Renew a claim and store the progress; return false if it was cancelled or claimed by another registrar."""
    row = (progress.done, progress.total, progress.doing, list(progress.notes))
    return await REGISTRATION_CLAIMS.renew(session, claim, *row)


async def end_registration(
    session: DatabaseSession, claim: Claim, made: Sequence[RegisteredVariant], error: str = "", code: str = ""
) -> bool:
    """Store the outcome, failed if there is an `error`; return false if it was cancelled or claimed by another."""
    state = RegistrationState.FAILED if error else RegistrationState.DONE
    return await REGISTRATION_CLAIMS.complete(session, claim, state, error, code, msgspec.to_builtins(made))


async def cancel_registration(session: DatabaseSession, registration: str) -> bool:
    """Cancel a registration; return false if it has ended."""
    return await session.execute(_CANCEL, registration) > 0


async def get_registration(
    session: DatabaseSession, registration: str, *, tenant: str | None = None
) -> RegistrationStatus | None:
    """Return a registration with its state, optionally only if it belongs to a tenant."""
    return await session.fetch_one(RegistrationStatus, _GET, registration, tenant)


async def list_registrations(
    session: DatabaseSession, *, tenant: str | None = None, limit: int = 100
) -> list[ListedRegistration]:
    """List registrations, newest first, optionally of one tenant."""
    return await session.fetch(ListedRegistration, _LIST, tenant, limit)


async def forget_registrations(session: DatabaseSession, age_s: float) -> None:
    """Delete registrations that ended at least `age_s` seconds ago."""
    await session.execute(_FORGET, age_s)


class _Text(msgspec.Struct):
    text: str


async def reserve_upload(pool: Pool, tenant: str, sha256: str, size: int, most_bytes: int) -> Upload | None:
    """Reserve space for an upload, or return the existing upload; None: the tenant's limit would be exceeded.

    The limits are `most_bytes` and `MOST_FILES`.
    """
    async with pool.transaction() as session:
        await session.execute(_LOCK_TENANT, tenant)
        return await session.fetch_one(Upload, _RESERVE, tenant, sha256, size, most_bytes, MOST_FILES)


async def upload_arrived(pool: Pool, tenant: str, sha256: str, size: int, most_bytes: int) -> Upload | None:
    """Mark an upload as complete before its file is stored; None: the tenant's limit would be exceeded."""
    async with pool.transaction() as session:
        await session.execute(_LOCK_TENANT, tenant)
        return await session.fetch_one(Upload, _ARRIVED, tenant, sha256, size, most_bytes, MOST_FILES)


async def give_up_upload(session: DatabaseSession, tenant: str, sha256: str) -> None:
    """Cancel the reservation of an upload that has not arrived."""
    await session.execute(_GIVE_UP, tenant, sha256)


async def get_upload(session: DatabaseSession, tenant: str, sha256: str) -> Upload | None:
    """Return an upload, or None."""
    return await session.fetch_one(Upload, _LIST_UPLOADS, tenant, sha256, 1)


async def list_uploads(session: DatabaseSession, tenant: str, limit: int = 1000) -> list[Upload]:
    """List a tenant's uploads, newest first."""
    return await session.fetch(Upload, _LIST_UPLOADS, tenant, None, limit)


async def upload_bytes(session: DatabaseSession, tenant: str) -> int:
    """Return the total bytes of a tenant's uploads."""
    return await session.fetch_value(int, _BYTES, tenant) or 0


async def use_uploads(session: DatabaseSession, tenant: str, files: Collection[str]) -> set[str]:
    """Mark uploads as used; return the SHA-256 of the complete ones."""
    return {row.sha256 for row in await session.fetch(Upload, _USE, tenant, list(files))}


async def sweep_uploads(pool: Pool, age_s: float, discard: Callable[[str], Awaitable[None]]) -> int:
    """Delete uploads that were not used for `age_s` seconds; return their number.

    `discard` is called for each file that no other tenant has uploaded.
    """
    swept = 0
    while True:
        async with pool.transaction() as session:
            await session.execute(_LOCK)
            gone = await session.fetch(Upload, _TAKE_UNUSED, age_s, _AT_ONCE)
            files = {row.sha256 for row in gone}
            for sha256 in files - {row.text for row in await session.fetch(_Text, _KEPT, list(files))}:
                await discard(sha256)
        swept += len(gone)
        if len(gone) < _AT_ONCE:
            return swept
