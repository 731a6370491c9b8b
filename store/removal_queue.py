"""Queue of removals requested at a gateway, which any gateway may claim.

The executing gateway sends a heartbeat every second. After `STALE_S` without one, another gateway claims the removal; a
removal can be continued from any step. Later writes of the former gateway are ignored, because they carry an earlier
attempt. A change of state notifies `store.change_listener.REMOVALS`.
"""

from typing import Final

from schemas.principal import Principal
from schemas.rows.removals import RemovalReport, RemovalRequest, RemovalRow, RemovalState
from store.errors import StoreConflict
from store.pool import DatabaseSession
from store.sql import load_queries

STALE_S: Final = 10.0
"""Seconds without a heartbeat after which the executing gateway counts as dead."""

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
    """Store a requested removal, or return the open one of the same name and actor."""
    row = await session.fetch_one(RemovalRow, _PUT_REMOVAL, request.name, request, principal, actor, origin)
    if row is None:
        raise StoreConflict(f"the removal of {request.name} was not kept")
    return row


async def get_removal(session: DatabaseSession, number: int) -> RemovalRow | None:
    """Return a removal, or None."""
    return await session.fetch_one(RemovalRow, _GET_REMOVAL, number)


async def claim_removal(session: DatabaseSession, stale_s: float = STALE_S) -> RemovalRow | None:
    """Claim the oldest removal that no gateway executes; None: there is none."""
    return await session.fetch_one(RemovalRow, _CLAIM_REMOVAL, stale_s)


async def any_running(session: DatabaseSession) -> bool:
    """Return true if a removal is marked as running, also if its gateway is dead."""
    return bool(await session.fetch_value(int, _COUNT_RUNNING))


async def beat_removal(session: DatabaseSession, row: RemovalRow, done: int, total: int, step: str) -> None:
    """Store the heartbeat and progress of a removal."""
    await session.execute(_BEAT_REMOVAL, row.id, row.attempts, done, total, step)


async def end_removal(
    session: DatabaseSession, row: RemovalRow, report: RemovalReport | None = None, error: str = ""
) -> None:
    """Store the outcome of a removal."""
    state = RemovalState.FAILED if error else RemovalState.DONE
    await session.execute(_END_REMOVAL, row.id, row.attempts, state, error, report)


async def release_removal(session: DatabaseSession, row: RemovalRow) -> None:
    """Release a removal for another gateway; the caller must not write to it any more."""
    await session.execute(_RELEASE_REMOVAL, row.id, row.attempts)
