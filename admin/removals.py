"""Unregistering: the admin API plans and requests it for a gateway to execute; the command line executes it itself."""

from typing import Final

from admin.binding import bind
from admin.control import RequestContext
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
"""Longest drain and grace time that a caller other than an administrator may set: one removal runs at a time in a
system."""


async def plan(control: RequestContext, request: RemovalPlanRequest) -> RemovalPlan:
    """Return the objects that a removal of `name` would remove.

    Raises:
        NotFound: nothing has this name.
        Forbidden: some of these objects belong to another owner.
        OperatorError: it is a version that answers queries.
    """
    return await plan_removal(control.pool, control.artifact_store(), request.name, control.principal)


async def begin(control: RequestContext, request: RemovalRequest) -> Removal:
    """Accept a removal, which a gateway then executes.

    Raises:
        InvalidRequest: it would delay the removals of others too long.
        NotFound: nothing has this name.
        Forbidden: some of it belongs to another owner.
        OperatorError: it is in use and `force` is not set; or it is a version that answers queries.
    """
    if max(request.drain_timeout_s, request.results_grace_s) > _MOST_WAIT_S and not control.principal.has(Role.ADMIN):
        raise InvalidRequest(
            f"timeouts of a removal must be at most {_MOST_WAIT_S:g} s, because other removals wait for it"
        )
    found = await plan_removal(control.pool, control.artifact_store(), request.name, control.principal)
    check_unused(found, force=request.force)
    row = await put_removal(control.pool, request, control.principal, control.actor, control.origin)
    return row.told()


async def status(control: RequestContext, request: RemovalStatusRequest) -> Removal:
    """Return the progress of a removal.

    Raises:
        NotFound: the removal does not exist, or belongs to another tenant.
    """
    row = await get_removal(control.pool, request.id)
    if row is None or not _may_see(control, row):
        raise NotFound(f"there is no removal {request.id}; it may have expired")
    return row.told()


async def remove(
    control: RequestContext, dsn: str, request: RemovalRequest, sink: ProgressSink
) -> RemovalReport | None:
    """Unregister and wait for completion; return None if another process completed it meanwhile.

    Raises:
        InfaasError: as `unregister` does.
    """
    kafka, stores = control.find_kafka(), (control.artifact_store(), control.exchange_store())
    async with audited(control.pool, control.act(AuditVerb.UNREGISTER, request.name, force=request.force)):
        return await unregister(request, control.pool, dsn, kafka, *stores, sink, control.principal)


def _may_see(control: RequestContext, row: RemovalRow) -> bool:
    principal = control.principal
    own = principal.tenant is not None and principal.tenant == row.principal.tenant
    return own or row.principal == principal or principal.has(Role.ADMIN)


BINDINGS: Final = (bind(PLAN_REMOVAL, plan), bind(BEGIN_REMOVAL, begin), bind(SHOW_REMOVAL, status))
