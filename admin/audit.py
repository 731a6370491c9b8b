"""The audit log of administrators' acts."""

from typing import Annotated, Final

import msgspec

from admin.api import PageSize, RequestContext, Since, Until, endpoint, param
from schemas.access import Role
from schemas.rows.audit import AuditRow, AuditVerb
from store.audit import list_acts


class ActsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed actions: an action must match every field that is given."""

    actor: Annotated[str | None, param("Only actions of this person or key.", "--by")] = None
    verb: Annotated[AuditVerb | None, param("Only this kind of action.", "--what")] = None
    subject: Annotated[str | None, param("Only actions on this model, key, job ...", "--on")] = None
    since: Since = None
    until: Until = None
    latest: Annotated[PageSize, param("Maximum number of actions.", "--latest", "-n")] = 50


@endpoint("audit.list", "GET", "/v1/audit", Role.ADMIN)
async def list_all(context: RequestContext, request: ActsRequest) -> list[AuditRow]:
    """List administrators' actions: actor, verb, subject, time, origin, outcome; the latest last."""
    found = await list_acts(
        context.pool,
        actor=request.actor,
        verb=request.verb,
        subject=request.subject,
        since=request.since,
        until=request.until,
        limit=request.latest,
    )
    return found[::-1]


AUDIT: Final = (list_all,)
