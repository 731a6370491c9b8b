"""Registrations through the admin API: stored, claimed by a registrar (`claims`), and executed once.

A cancelled registration ends at once, and its registrar learns this at its next renewal.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.registrations import ListedRegistration, RegisteredVariant, RegistrationState, RegistrationStatus
from schemas.rows.registrations import ClaimedRegistration, NewRegistration, RegistrationProgress, RegistrationToDo
from store.claims import Claim, Claims
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool, load_queries
from store.uploads import use_uploads

_SQL: Final = load_queries("registrations")
REGISTRATION_CLAIMS: Final = Claims("registrations", ClaimedRegistration, _SQL)


async def put_registration(pool: Pool, row: NewRegistration, most_open: int) -> bool:
    """Store a registration and mark its uploads as used; return false if its tenant has `most_open` open ones.

    Raises:
        StoreConflict: an upload is missing.
    """
    async with pool.transaction() as session:
        await session.execute(_SQL["lock_tenant"], row.tenant)
        if (await session.fetch_value(int, _SQL["count_open"], row.tenant) or 0) >= most_open:
            return False
        there = await use_uploads(session, row.tenant, row.uploads)
        missing = set(row.uploads) - there
        if missing:
            raise StoreConflict(f"there is no upload {min(missing)}: upload the file first")
        await session.execute(
            _SQL["put_registration"], *(getattr(row, name) for name in NewRegistration.__struct_fields__)
        )
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
    return await session.fetch_one(RegistrationToDo, _SQL["registration_to_do"], registration)


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
    return await session.execute(_SQL["cancel_registration"], registration) > 0


async def get_registration(
    session: DatabaseSession, registration: str, *, tenant: str | None = None
) -> RegistrationStatus | None:
    """Return a registration with its state, optionally only if it belongs to a tenant."""
    return await session.fetch_one(RegistrationStatus, _SQL["get_registration"], registration, tenant)


async def list_registrations(
    session: DatabaseSession, *, tenant: str | None = None, limit: int = 100
) -> list[ListedRegistration]:
    """List registrations, newest first, optionally of one tenant."""
    return await session.fetch(ListedRegistration, _SQL["list_registrations"], tenant, limit)


async def forget_registrations(session: DatabaseSession, age_s: float) -> None:
    """Delete registrations that ended at least `age_s` seconds ago."""
    await session.execute(_SQL["forget_registrations"], age_s)
