"""Ownership and access of tasks and models."""

from typing import Annotated, Final

import msgspec

from admin.api import RequestContext, endpoint, param
from process.security.access import check_access, check_answers, is_within
from process.security.catalog_view import CatalogView
from registry.access import change_access, read_sight
from schemas.access import Access, Role, Visibility
from schemas.errors import Forbidden, InvalidRequest, NotFound
from schemas.names import is_variant_name, is_version
from schemas.rows.audit import AuditVerb
from schemas.rows.catalog import Architecture, Task
from store.audit import audited_transaction
from store.pool import DatabaseSession
from store.registry import get_architecture, get_task
from store.rollouts import list_versions
from store.tenants import get_access, lock_access

_Name = Annotated[str, param("Model, with all its versions, or task.", metavar="MODEL|TASK")]


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the owner and visibility of a task or model."""

    name: _Name


class AccessChange(msgspec.Struct, frozen=True, kw_only=True):
    """Change of the owner or visibility of a task or model."""

    name: _Name
    visibility: Visibility
    owner: Annotated[str | None, param("New owner; null: the owner does not change.")] = None
    shared_with: Annotated[
        frozenset[str],
        msgspec.Meta(max_length=1000),
        param("Tenants that may also use it if `visibility` is `shared`."),
    ] = frozenset()


class AccessOf(msgspec.Struct, frozen=True):
    """Task or model with its owner and visibility."""

    name: str
    access: Access


@endpoint("access.show", "GET", "/v1/access/{name}", Role.QUERY)
async def show_access(context: RequestContext, request: AccessRequest) -> AccessOf:
    """Show the owner and visibility of a task or model.

    Raises:
        NotFound: no task or model has this name, or the caller does not see it.
    """
    async with context.pool.snapshot() as session:
        sight = await read_sight(session, context.principal)
        await _find(session, sight, request.name)
        return AccessOf(request.name, sight.access_of(request.name))


@endpoint("access.set", "PUT", "/v1/access/{name}", Role.PUBLISH)
async def set_access(context: RequestContext, request: AccessChange) -> list[AccessOf]:
    """Change the owner or visibility of a task or model; returns derived models whose access was restricted as well.

    Raises:
        InvalidRequest: the access is invalid, or wider than that of the parts of a composite.
        NotFound: no task or model has this name.
        Forbidden: it belongs to another tenant; or the caller gives it away without the role admin; or other tenants
            would be answered by the model in a task that its owner does not own.
    """
    await _checked(context.pool, context, request)
    asked = {
        "owner": request.owner,
        "visibility": request.visibility,
        "shared_with": sorted(request.shared_with),
    }
    act = context.act(AuditVerb.SET_ACCESS, request.name, **asked)
    async with audited_transaction(context.pool, act) as session:
        await lock_access(session)
        access, sight = await _checked(session, context, request)  # the owner may have changed meanwhile
        changed = await change_access(session, context.artifact_store(), request.name, access, sight)
    return [AccessOf(name, access) for name, access in changed.items()]


async def _checked(
    session: DatabaseSession, context: RequestContext, request: AccessChange
) -> tuple[Access, CatalogView]:
    """Return the new access after all checks, and the caller's view of the catalog."""
    sight = await read_sight(session, context.principal)
    row = await _find(session, sight, request.name)
    sight.check_may_change([row])
    now = await get_access(session, request.name)
    if request.owner not in (None, now.owner) and not sight.is_whole:
        raise Forbidden(f"only the role admin may give {request.name} to another tenant")
    access = check_access(
        Access(owner=request.owner or now.owner, visibility=request.visibility, shared_with=request.shared_with)
    )
    if isinstance(row, Architecture) and not is_within(access, now):
        check_answers(row.task, await get_access(session, row.task), access, context.principal)
    return access, sight


async def _find(session: DatabaseSession, sight: CatalogView, name: str) -> Task | Architecture:
    """Return the task of this name, or a version of the model of this name."""
    if is_variant_name(name) or is_version(name):
        raise InvalidRequest(f"{name} is a part of a model and has the model's permissions: name the model")
    task, architecture = await get_task(session, name), await get_architecture(session, name)
    versions = await list_versions(session, name)
    seen = [row for row in (task, *versions, architecture) if row is not None and sight.sees(row)]
    if not seen:
        raise NotFound(f"there is no task or model {name!r}: `infaas tasks` and `infaas models` list them")
    found = seen[0]
    if isinstance(found, Architecture) and found.model != name:
        raise NotFound(f"{name} is version {found.version} of {found.model}: name the model")
    return found


ACCESS: Final = (show_access, set_access)
