"""The audit log of administrators' acts."""

from typing import Final

from admin.binding import bind
from admin.control import RequestContext
from schemas.endpoints.audit import ACTS, ActsRequest
from schemas.rows.audit import AuditRow
from store.audit import list_acts


async def acts(control: RequestContext, request: ActsRequest) -> list[AuditRow]:
    """List acts in chronological order."""
    found = await list_acts(
        control.pool,
        actor=request.actor,
        verb=request.verb,
        subject=request.subject,
        since=request.since,
        until=request.until,
        limit=request.latest,
    )
    return found[::-1]


BINDINGS: Final = (bind(ACTS, acts),)
