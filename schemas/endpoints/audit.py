"""Audit endpoint of the admin API: the actions of administrators."""

from typing import Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, PageSize, Timestamp
from schemas.principal import Role
from schemas.rows.audit import AuditRow, AuditVerb


class ActsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed actions: an action must match every field that is given."""

    actor: str | None = None
    verb: AuditVerb | None = None
    subject: str | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None
    """Exclusive end of the time range."""
    latest: PageSize = 50
    """Maximum number of actions."""


ACTS: Final = Endpoint(
    name="audit.list",
    method="GET",
    path="/v1/audit",
    role=Role.ADMIN,
    request=ActsRequest,
    result=list[AuditRow],
    summary="List administrators' actions: actor, verb, subject, time, origin, outcome; the latest last.",
)
