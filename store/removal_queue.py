"""Removals that were asked of a gateway, done by whichever takes them first.

Whoever does one says so each second; who has not for `STALE_S` has ended, and another goes on: a removal can be taken
up wherever it was cut off. What the former still writes, should it live after all, is of an attempt that counts no
longer. A change of state notifies `store.change_listener.REMOVALS`.
"""

from typing import Final

from schemas.principal import Principal
from schemas.rows.removals import RemovalReport, RemovalRequest, RemovalRow, RemovalState
from store.errors import StoreConflict
from store.pool import DatabaseSession
from store.sql import load_queries

STALE_S: Final = 10.0
"""Seconds of silence after which whoever does a removal is taken to have ended."""

_queries = load_queries("removal_queue")
_PUT_REMOVAL: Final = _queries["put_removal"]
_GET_REMOVAL: Final = _queries["get_removal"]
_CLAIM_REMOVAL: Final = _queries["claim_removal"]
_COUNT_RUNNING: Final = _queries["count_running"]
_BEAT_REMOVAL: Final = _queries["beat_removal"]
_END_REMOVAL: Final = _queries["end_removal"]
_RELEASE_REMOVAL: Final = _queries["release_removal"]


async def put_removal(
    session: DatabaseSession, request: RemovalRequest, principal: Principal, actor: str, origin: str
) -> RemovalRow:
    """Keep a removal that is asked for; the one that is not over yet, where the same person has asked before."""
    row = await session.fetch_one(RemovalRow, _PUT_REMOVAL, request.name, request, principal, actor, origin)
    if row is None:
        raise StoreConflict(f"the removal of {request.name} was not kept")
    return row


async def get_removal(session: DatabaseSession, number: int) -> RemovalRow | None:
    """Read a removal, if it is kept."""
    return await session.fetch_one(RemovalRow, _GET_REMOVAL, number)


async def claim_removal(session: DatabaseSession, stale_s: float = STALE_S) -> RemovalRow | None:
    """Take the first removal that nobody does; None: there is none."""
    return await session.fetch_one(RemovalRow, _CLAIM_REMOVAL, stale_s)


async def any_running(session: DatabaseSession) -> bool:
    """Whether somebody does a removal, or did and has not said so for long."""
    return bool(await session.fetch_value(int, _COUNT_RUNNING))


async def beat_removal(session: DatabaseSession, row: RemovalRow, done: int, total: int, step: str) -> None:
    """Say that a removal is still done, and how far it is."""
    await session.execute(_BEAT_REMOVAL, row.id, row.attempts, done, total, step)


async def end_removal(
    session: DatabaseSession, row: RemovalRow, report: RemovalReport | None = None, error: str = ""
) -> None:
    """Note what came of a removal."""
    state = RemovalState.FAILED if error else RemovalState.DONE
    await session.execute(_END_REMOVAL, row.id, row.attempts, state, error, report)


async def release_removal(session: DatabaseSession, row: RemovalRow) -> None:
    """Let somebody else go on with a removal; whoever gives it back writes nothing more of it."""
    await session.execute(_RELEASE_REMOVAL, row.id, row.attempts)
