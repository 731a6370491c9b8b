"""Queue of removals requested at a gateway, which any gateway may claim (`claims`).

The executing gateway renews its claim every second. After `STALE_S` without a renewal, another gateway claims the
removal; a removal can be continued from any step. A change of state notifies `store.change_listener.REMOVALS`.
"""

from typing import Final

from schemas.principal import Principal
from schemas.rows.removals import RemovalReport, RemovalRequest, RemovalRow, RemovalState
from store.claims import Claim, Claims
from store.errors import StoreConflict
from store.pool import DatabaseSession
from store.sql import load_queries

STALE_S: Final = 10.0
"""Seconds without a renewal after which the executing gateway counts as dead."""

_queries = load_queries("removal_queue")
_PUT_REMOVAL: Final = _queries["put_removal"]
_GET_REMOVAL: Final = _queries["get_removal"]
_COUNT_RUNNING: Final = _queries["count_running"]

REMOVAL_CLAIMS: Final = Claims("removals", RemovalRow, _queries)


async def put_removal(
    session: DatabaseSession, request: RemovalRequest, principal: Principal, actor: str, origin: str
) -> RemovalRow:
    """Store a requested removal, or return the open one of the same name and actor."""
    row = await session.fetch_one(RemovalRow, _PUT_REMOVAL, request.name, request, principal, actor, origin)
    if row is None:
        raise StoreConflict(f"the removal of {request.name} was not stored")
    return row


async def get_removal(session: DatabaseSession, number: int) -> RemovalRow | None:
    """Return a removal, or None."""
    return await session.fetch_one(RemovalRow, _GET_REMOVAL, number)


async def any_running(session: DatabaseSession) -> bool:
    """Return true if a removal is marked as running, also if its gateway is dead."""
    return bool(await session.fetch_value(int, _COUNT_RUNNING))


async def end_removal(
    session: DatabaseSession, claim: Claim, report: RemovalReport | None = None, error: str = ""
) -> None:
    """Store the outcome of a removal, failed if there is an `error`, unless another gateway has claimed it."""
    state = RemovalState.FAILED if error else RemovalState.DONE
    await REMOVAL_CLAIMS.complete(session, claim, state, error, report)
