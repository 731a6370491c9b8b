"""Builds: the steps of registrations that workers execute.

Every worker that reads the request for a step stores it, and one worker claims (`claims`) and executes it. A step has
one outcome, the first that is written. A worker that lost its claim may write it, too: it depends on the step only.
"""

from typing import Any, Final

from schemas.rows.registrations import BuildRow
from store.claims import Claims
from store.pool import DatabaseSession, load_queries

_SQL: Final = load_queries("builds")
BUILD_CLAIMS: Final = Claims("builds", BuildRow, _SQL)


async def put_build(session: DatabaseSession, build: str, hardware: str, step: object, asked_ms: int) -> None:
    """Store a build that was requested at `asked_ms`; an equal or earlier request changes nothing."""
    await session.execute(_SQL["put_build"], build, hardware, step, asked_ms)


async def claim_build(session: DatabaseSession, hardware: str, worker: str, silent_s: float) -> BuildRow | None:
    """Claim the oldest build without a worker, or whose worker has not renewed it for `silent_s`; None: there is none.

    A worker executes one build at a time, so a build that is assigned to the caller itself is left from an earlier
    process.
    """
    return await BUILD_CLAIMS.claim(session, worker, silent_s, hardware)


async def finish_build(session: DatabaseSession, build: str, outcome: dict[str, Any]) -> bool:
    """Store the outcome of a build; return false if it already has one, which is kept."""
    return await session.execute(_SQL["finish_build"], build, outcome) > 0


async def get_build(session: DatabaseSession, build: str) -> BuildRow | None:
    """Return a build, or None if it is not stored."""
    return await session.fetch_one(BuildRow, _SQL["get_build"], build)


async def count_open_builds(session: DatabaseSession, hardware: str) -> int:
    """Return the number of builds for a hardware type that have not ended."""
    return await session.fetch_value(int, _SQL["count_open_builds"], hardware) or 0


async def forget_builds(session: DatabaseSession, age_s: float) -> None:
    """Delete builds without a request or change for `age_s` seconds."""
    await session.execute(_SQL["forget_builds"], age_s)
