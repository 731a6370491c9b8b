"""Corrections of profiles that workers observe in long-term operation. A correction belongs to one measurement.

A new measurement of a variant deletes its corrections (`put_profile`).
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
    """Store the factor for a profile's latency on a worker, observed for `seen_s` seconds; 1 deletes the correction."""
    if factor == 1.0:
        await session.execute(_DELETE, profile.variant, worker)
    else:
        await session.execute(_PUT, profile.variant, worker, factor, seen_s, profile.created_at)


async def list_corrections(
    session: DatabaseSession, *, variant: str | None = None, worker: str | None = None
) -> list[CorrectionRow]:
    """List the corrections of all workers that have not retired, optionally of one variant or worker."""
    return await session.fetch(CorrectionRow, _LIST, variant, worker)
