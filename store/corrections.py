"""Corrections of profiles: what workers have seen over long. Each is of the profile that it was seen of.

Who measures a variant anew forgets its corrections (`put_profile`).
"""

from typing import Final

from schemas.rows.catalog import Profile
from schemas.rows.placement import CorrectionRow
from store.pool import DatabaseSession
from store.sql import load_queries

_queries = load_queries("corrections")
_PUT: Final = _queries["put_correction"]
_DELETE: Final = _queries["delete_correction"]
_LIST: Final = _queries["list_corrections"]


async def put_correction(session: DatabaseSession, profile: Profile, worker: str, factor: float, seen_s: float) -> None:
    """Note by what a profile's latency is to be multiplied on a worker, as seen for `seen_s`; 1: it is right there."""
    if factor == 1.0:
        await session.execute(_DELETE, profile.variant, worker)
    else:
        await session.execute(_PUT, profile.variant, worker, factor, seen_s, profile.created_at)


async def list_corrections(
    session: DatabaseSession, *, variant: str | None = None, worker: str | None = None
) -> list[CorrectionRow]:
    """List the corrections on all workers that have not retired, or that of a variant or a worker."""
    return await session.fetch(CorrectionRow, _LIST, variant, worker)
