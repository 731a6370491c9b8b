"""Unregistering: the admin API plans and requests it for a gateway to execute; the command line executes it itself."""

from typing import Annotated, Final

import msgspec

from admin.api import Number, RequestContext, endpoint, param
from registry.removal.removal_plan import check_unused, plan_removal
from registry.removal.unregister import unregister
from registry.request import ProgressSink
from schemas.access import Role
from schemas.errors import InvalidRequest, NotFound
from schemas.rows.audit import AuditVerb
from schemas.rows.removals import Removal, RemovalPlan, RemovalReport, RemovalRequest, RemovalRow
from store.audit import audited
from store.removals import get_removal, put_removal


class RemovalPlanRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a preview of a removal."""

    name: Annotated[str, param("Variant, model, version (`MODEL@2`), or task with its models.")]


class RemovalStatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the status of a removal."""

    id: Number


_MOST_WAIT_S: Final = 600.0
"""Longest drain and grace time that a caller other than an administrator may set: one removal runs at a time in a
system."""


@endpoint("removals.plan", "GET", "/v1/removal-plans/{name}", Role.PUBLISH)
async def plan(context: RequestContext, request: RemovalPlanRequest) -> RemovalPlan:
    """Show what the removal of a variant, model, version or task would delete, and its uses.

    Raises:
        NotFound: nothing has this name.
        Forbidden: some of these objects belong to another owner.
        OperatorError: it is a version that answers queries.
    """
    return await plan_removal(context.pool, context.artifact_store(), request.name, context.principal)


@endpoint("removals.begin", "POST", "/v1/removals", Role.PUBLISH)
async def begin(context: RequestContext, request: RemovalRequest) -> Removal:
    """Unregister a variant, model, version or task after its queries are answered.

    The response has the removal's id; the removal continues afterwards. A repeated request returns the open removal, or
    continues a failed one.

    Raises:
        InvalidRequest: it would delay the removals of others too long.
        NotFound: nothing has this name.
        Forbidden: some of it belongs to another owner.
        OperatorError: it is in use and `force` is not set; or it is a version that answers queries.
    """
    if max(request.drain_timeout_s, request.results_grace_s) > _MOST_WAIT_S and not context.principal.has(Role.ADMIN):
        raise InvalidRequest(
            f"timeouts of a removal must be at most {_MOST_WAIT_S:g} s, because other removals wait for it"
        )
    found = await plan_removal(context.pool, context.artifact_store(), request.name, context.principal)
    check_unused(found, force=request.force)
    row = await put_removal(context.pool, request, context.principal, context.actor, context.origin)
    return row.told()


@endpoint("removals.show", "GET", "/v1/removals/{id}", Role.PUBLISH)
async def status(context: RequestContext, request: RemovalStatusRequest) -> Removal:
    """Show the progress and the result of a removal, for its tenant and administrators.

    Raises:
        NotFound: the removal does not exist, or belongs to another tenant.
    """
    row = await get_removal(context.pool, request.id)
    if row is None or not _may_see(context, row):
        raise NotFound(f"there is no removal {request.id}; it may have expired")
    return row.told()


async def remove(
    context: RequestContext, dsn: str, request: RemovalRequest, sink: ProgressSink
) -> RemovalReport | None:
    """Unregister and wait for completion; return None if another process completed it meanwhile.

    Raises:
        InfaasError: as `unregister` does.
    """
    kafka, stores = context.find_kafka(), (context.artifact_store(), context.exchange_store())
    async with audited(context.pool, context.act(AuditVerb.UNREGISTER, request.name, force=request.force)):
        return await unregister(request, context.pool, dsn, kafka, *stores, sink, context.principal)


def _may_see(context: RequestContext, row: RemovalRow) -> bool:
    principal = context.principal
    own = principal.tenant is not None and principal.tenant == row.principal.tenant
    return own or row.principal == principal or principal.has(Role.ADMIN)


REMOVALS: Final = (plan, begin, status)
