"""What administrators did, over the admin API."""

from typing import Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Moment, Some
from schemas.principal import Role
from schemas.rows.audit import AuditRow, AuditVerb


class ActsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Acts that are to be listed: those that are all of it."""

    actor: str | None = None
    verb: AuditVerb | None = None
    subject: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    """Before then."""
    latest: Some = 50
    """How many."""


ACTS: Final = Endpoint(
    name="audit.list",
    method="GET",
    path="/v1/audit",
    role=Role.ADMIN,
    request=ActsRequest,
    result=list[AuditRow],
    summary="What administrators did: who, what, to what, when, from where, and what came of it; the latest last.",
)
