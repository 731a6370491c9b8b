"""Registrations through the admin API: asked for, claimed by a registrar, done once.

A claim holds for as long as it is renewed, by the database's clock alone, and has an epoch: what an earlier one still
writes changes nothing. One that is cancelled ends at once; its registrar finds out when it next says how far it is.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.registrations import ListedRegistration, MadeVariant, RegistrationState, RegistrationStatus
from schemas.rows.registrations import (
    ClaimedRegistration,
    NewRegistration,
    RegistrationProgress,
    RegistrationToDo,
)
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool
from store.sql import load_queries
from store.uploads import use_uploads

_queries = load_queries("registrations")
_PUT: Final = _queries["put_registration"]
_COUNT_OPEN: Final = _queries["count_open"]
_LOCK_TENANT: Final = _queries["lock_tenant"]
_CLAIM: Final = _queries["claim_registration"]
_TO_DO: Final = _queries["registration_to_do"]
_NOTE_PROGRESS: Final = _queries["note_progress"]
_KEEP: Final = _queries["keep_claim"]
_END: Final = _queries["end_registration"]
_RELEASE: Final = _queries["release_registration"]
_CANCEL: Final = _queries["cancel_registration"]
_GET: Final = _queries["get_registration"]
_LIST: Final = _queries["list_registrations"]
_FORGET: Final = _queries["forget_registrations"]


async def put_registration(pool: Pool, row: NewRegistration, most_open: int) -> bool:
    """Keep a registration, and the uploads that it names; False: its tenant has `most_open` already.

    Raises:
        StoreConflict: an upload is not there.
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
    """Begin a registration that nobody does, or whose registrar has been silent for `silent_s`; None: there is none.

    A worker does `most_alike` at once of those that one tenant's publishers ask for, and of those that wait where no
    worker of their hardware is.
    """
    return await session.fetch_one(ClaimedRegistration, _CLAIM, worker, silent_s, most_alike)


async def registration_to_do(session: DatabaseSession, registration: str) -> RegistrationToDo | None:
    """Read what is to be done; None: it is done, or was cancelled."""
    return await session.fetch_one(RegistrationToDo, _TO_DO, registration)


async def note_progress(session: DatabaseSession, claim: tuple[str, int], progress: RegistrationProgress) -> bool:
    """Keep a claim, by id and epoch, and note how far it is. False: it was cancelled, or is another's."""
    row = (progress.done, progress.total, progress.doing, list(progress.notes))
    return await session.execute(_NOTE_PROGRESS, *claim, *row) > 0


async def keep_claim(session: DatabaseSession, claim: tuple[str, int]) -> bool:
    """Keep a claim, by id and epoch. False: it was cancelled, or is another's."""
    return await session.execute(_KEEP, *claim) > 0


async def end_registration(
    session: DatabaseSession, claim: tuple[str, int], made: Sequence[MadeVariant], error: str = "", code: str = ""
) -> bool:
    """Note how a registration ended: failed, if there is an `error`. False: it was cancelled, or is another's."""
    state = RegistrationState.FAILED if error else RegistrationState.DONE
    return await session.execute(_END, *claim, state, error, code, msgspec.to_builtins(made)) > 0


async def release_registration(session: DatabaseSession, claim: tuple[str, int], reason: str = "") -> None:
    """Give a registration back: it was interrupted, or the attempt ended in a way, the `reason`, without an outcome."""
    await session.execute(_RELEASE, *claim, reason)


async def cancel_registration(session: DatabaseSession, registration: str) -> bool:
    """Cancel a registration. False: it has ended."""
    return await session.execute(_CANCEL, registration) > 0


async def get_registration(
    session: DatabaseSession, registration: str, *, tenant: str | None = None
) -> RegistrationStatus | None:
    """Read how far a registration is, of a tenant if one is given."""
    return await session.fetch_one(RegistrationStatus, _GET, registration, tenant)


async def list_registrations(
    session: DatabaseSession, *, tenant: str | None = None, limit: int = 100
) -> list[ListedRegistration]:
    """List registrations, the latest first: all, or a tenant's."""
    return await session.fetch(ListedRegistration, _LIST, tenant, limit)


async def forget_registrations(session: DatabaseSession, age_s: float) -> None:
    """Forget registrations that ended so long ago."""
    await session.execute(_FORGET, age_s)
