"""Builds: the steps of registrations that workers do.

A step is put down by whichever workers read that it is asked for, and done by the one that claims it. A claim holds for
as long as it is renewed, by the database's clock alone. A step has one outcome, whoever was first.
"""

from typing import Any, Final

from schemas.rows.builds import BuildRow
from store.pool import DatabaseSession
from store.sql import load_queries

_queries = load_queries("builds")
_PUT: Final = _queries["put_build"]
_CLAIM: Final = _queries["claim_build"]
_RENEW: Final = _queries["renew_build"]
_RELEASE: Final = _queries["release_build"]
_FINISH: Final = _queries["finish_build"]
_GET: Final = _queries["get_build"]
_COUNT_OPEN: Final = _queries["count_open_builds"]
_FORGET: Final = _queries["forget_builds"]


async def put_build(session: DatabaseSession, build: str, hardware: str, step: object, asked_ms: int) -> None:
    """Put a build down that was asked for at `asked_ms`; the same request again changes nothing."""
    await session.execute(_PUT, build, hardware, step, asked_ms)


async def claim_build(session: DatabaseSession, hardware: str, worker: str, silent_s: float) -> BuildRow | None:
    """Begin the oldest build that nobody does, or whose worker has been silent for `silent_s`; None if there is none.

    A worker does one build at a time: what it is said to do is of an earlier life.
    """
    return await session.fetch_one(BuildRow, _CLAIM, hardware, worker, silent_s)


async def renew_build(session: DatabaseSession, build: str, worker: str) -> bool:
    """Note that a worker is still at a build. False: another has it, or it has ended."""
    return await session.execute(_RENEW, build, worker) > 0


async def release_build(session: DatabaseSession, build: str, worker: str, reason: str = "") -> None:
    """Give a build back: it was interrupted, or the attempt ended in a way, the `reason`, that left no outcome."""
    await session.execute(_RELEASE, build, worker, reason)


async def finish_build(session: DatabaseSession, build: str, outcome: dict[str, Any]) -> bool:
    """Note how a build ended. False: it has an outcome already, which stays."""
    return await session.execute(_FINISH, build, outcome) > 0


async def get_build(session: DatabaseSession, build: str) -> BuildRow | None:
    """Read a build, if it was put down."""
    return await session.fetch_one(BuildRow, _GET, build)


async def count_open_builds(session: DatabaseSession, hardware: str) -> int:
    """Count the builds for a hardware type that have not ended."""
    return await session.fetch_value(int, _COUNT_OPEN, hardware) or 0


async def forget_builds(session: DatabaseSession, age_s: float) -> None:
    """Forget builds that nothing has happened to for so long."""
    await session.execute(_FORGET, age_s)
