"""Unregistering: planned and asked for over the admin API, where a gateway does it, or done here at once."""

from typing import Final

from admin.binding import bind
from admin.control import Control
from registry.registration import ProgressSink
from registry.removal.removal_plan import check_unused, plan_removal
from registry.removal.unregister import unregister
from schemas.endpoints.removals import (
    BEGIN_REMOVAL,
    PLAN_REMOVAL,
    SHOW_REMOVAL,
    RemovalPlanRequest,
    RemovalStatusRequest,
)
from schemas.errors import InvalidRequest, NotFound
from schemas.principal import Role
from schemas.rows.audit import AuditVerb
from schemas.rows.removals import Removal, RemovalPlan, RemovalReport, RemovalRequest, RemovalRow
from store.audit import audited
from store.removal_queue import get_removal, put_removal

_MOST_WAIT_S: Final = 600.0
"""Longest that who is no administrator may have a removal wait for what others do: one runs at a time in a system."""


async def plan(control: Control, request: RemovalPlanRequest) -> RemovalPlan:
    """Say what would go with a name.

    Raises:
        NotFound: nothing has this name.
        Forbidden: some of what would go is another's.
        OperatorError: it is a version that answers.
    """
    return await plan_removal(control.pool, control.artifact_store(), request.name, control.principal)


async def begin(control: Control, request: RemovalRequest) -> Removal:
    """Accept a removal, which a gateway then does.

    Raises:
        InvalidRequest: it would hold up those of others for long.
        NotFound: nothing has this name.
        Forbidden: some of it is another's.
        OperatorError: it is used, and that is no matter only with `force`; or it is a version that answers.
    """
    if max(request.drain_timeout_s, request.results_grace_s) > _MOST_WAIT_S and not control.principal.has(Role.ADMIN):
        raise InvalidRequest(f"other removals wait for this one: let it wait for {_MOST_WAIT_S:g} s at most")
    found = await plan_removal(control.pool, control.artifact_store(), request.name, control.principal)
    check_unused(found, force=request.force)
    row = await put_removal(control.pool, request, control.principal, control.actor, control.origin)
    return row.told()


async def status(control: Control, request: RemovalStatusRequest) -> Removal:
    """Say how far a removal is.

    Raises:
        NotFound: there is none of this number, or it is another tenant's.
    """
    row = await get_removal(control.pool, request.id)
    if row is None or not _may_see(control, row):
        raise NotFound(f"there is no removal {request.id}; it may have been kept no longer")
    return row.told()


async def remove(control: Control, dsn: str, request: RemovalRequest, sink: ProgressSink) -> RemovalReport | None:
    """Unregister, and return when it is done; None: somebody else has done it meanwhile.

    Raises:
        InfaasError: as `unregister` does.
    """
    kafka, stores = control.find_kafka(), (control.artifact_store(), control.exchange_store())
    async with audited(control.pool, control.act(AuditVerb.UNREGISTER, request.name, force=request.force)):
        return await unregister(request, control.pool, dsn, kafka, *stores, sink, control.principal)


def _may_see(control: Control, row: RemovalRow) -> bool:
    principal = control.principal
    own = principal.tenant is not None and principal.tenant == row.principal.tenant
    return own or row.principal == principal or principal.has(Role.ADMIN)


BINDINGS: Final = (bind(PLAN_REMOVAL, plan), bind(BEGIN_REMOVAL, begin), bind(SHOW_REMOVAL, status))
