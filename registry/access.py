"""Owners and users of tasks and models: set at registration, changed later, and limited by the parts of a composite.

Rules:
* Access is written in the transaction that writes the first rows, so nobody ever sees a row that they may not use.
* A new model gets the access that its registration requests, and a new task that of its first model. Access that exists
  is not changed by a registration.
* A composite is used by at most those tenants that may use all of its parts. It is narrowed when a part is narrowed, or
  when a new version has narrower parts; it is never widened with them.
* Changes are serialised by a lock, so a composite that is registered meanwhile sees a change, or the change sees it.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from process.security.access import (
    check_answers,
    common_access,
    is_within,
    may_change,
    may_use,
    narrowed,
    narrowed_composites,
)
from process.security.catalog_view import CatalogView
from registry.artifacts import ArtifactStore
from registry.removal.unused_files import stages_of
from registry.request import Registration
from schemas.access import PUBLIC, Access, Principal, Role, Visibility
from schemas.errors import Forbidden, InvalidRequest, OperatorError
from store.pool import DatabaseSession
from store.registry import get_architecture, get_task, list_architectures, list_variants
from store.rollouts import list_versions
from store.tenants import begin_access, get_access, list_access, lock_access, set_access


class _Composite(msgspec.Struct, frozen=True):
    model: str
    parts: frozenset[str]
    """Tasks and models of its stages."""


async def access_of_parts(session: DatabaseSession, parts: Iterable[str]) -> Access:
    """Return the widest access that a composite of these tasks and models may have."""
    return common_access((await list_access(session, names=set(parts))).values())


async def check_new_access(session: DatabaseSession, request: Registration, model: str, *, known: bool) -> None:
    """Raise `OperatorError` if a registration requests another access than the model has (`known`: it exists)."""
    if request.access is None or not known:
        return
    now = await get_access(session, model)
    if now != request.access:
        raise OperatorError(f"{model} is {now}: omit the access here, and change it by `infaas access set {model}`")


async def check_publisher(
    session: DatabaseSession, publisher: str | None, name: str, task: str, access: Access | None
) -> None:
    """Check that a tenant may register a model of this name for a task; None: an administrator, who may.

    A new model or task becomes the tenant's own. The tenant may register neither a version of a model that it does not
    own, nor a model that would answer other tenants' queries for a task that it does not own. A name that the tenant
    may not see is reported as taken.

    Raises:
        Forbidden: the tenant sees the model or the task, and does not own it.
        OperatorError: a name is taken.
    """
    if publisher is None:
        return
    who, owned = publisher_of(publisher), await list_access(session)
    row = await get_architecture(session, name)
    model = row.model if row is not None else name
    known = row is not None or bool(await list_versions(session, name)) or await get_task(session, name) is not None
    if known:
        _check_seen(name, owned.get(model, PUBLIC), who)
        if not may_change(owned.get(model, PUBLIC), who):
            raise Forbidden(f"{name} is registered by another tenant: choose another --name")
    if await get_task(session, task) is None and await get_architecture(session, task) is None:
        return
    of_task = owned.get(task, PUBLIC)
    _check_seen(task, of_task, who)
    if not known:
        check_answers(task, of_task, access or _usual_access(publisher), who)


def publisher_of(tenant: str) -> Principal:
    """Return the principal that registers models for a tenant."""
    return Principal(name=f"publisher of {tenant}", tenant=tenant, roles=frozenset({Role.PUBLISH}))


def _usual_access(publisher: str | None) -> Access:
    return PUBLIC if publisher is None else Access(owner=publisher, visibility=Visibility.PRIVATE)


def _check_seen(name: str, access: Access, who: Principal) -> None:
    if not may_use(access, who):
        raise OperatorError(f"the name {name} is used by another tenant: choose another one")


async def write_access(
    session: DatabaseSession, artifacts: ArtifactStore, request: Registration, model: str, task: str | None
) -> None:
    """Write the access of a model, and of its `task` if that is new, in the transaction that makes them visible."""
    known = widest = PUBLIC
    if request.made_of:
        await lock_access(session)
        known, widest = await get_access(session, model), await access_of_parts(session, request.made_of)
    access = narrowed(request.access or _usual_access(request.publisher), widest)
    for name in (model, task):
        if name is not None:
            await begin_access(session, name, access)
    if request.publisher is not None and (await get_access(session, model)).owner != request.publisher:
        raise OperatorError(f"the name {model} was taken meanwhile: choose another --name")
    if not is_within(known, widest):  # composites of this model may be too open now, too
        await set_access(session, model, narrowed(await get_access(session, model), widest))
        await _narrowed(session, await _composites(session, artifacts))


async def read_sight(session: DatabaseSession, principal: Principal) -> CatalogView:
    """Return the view that a principal has of the catalog."""
    return CatalogView(principal, await list_access(session), await list_architectures(session))


async def change_access(
    session: DatabaseSession, artifacts: ArtifactStore, name: str, access: Access, sight: CatalogView
) -> dict[str, Access]:
    """Change the access of a task or a model; return it with the accesses that were narrowed by it, by name.

    Call it under `lock_access`. Composites of the model are narrowed, whoever owns them; they are returned only if the
    caller may know all of them.

    Raises:
        InvalidRequest: the access is wider than the parts of the model allow.
    """
    composites = await _composites(session, artifacts)
    for parts in (one.parts for one in composites if one.model == name):
        widest = await access_of_parts(session, parts)
        if not is_within(access, widest):
            whose = f"parts that are {widest}" if sight.is_whole else "parts that some of these tenants may not use"
            raise InvalidRequest(f"{name} is made of {whose}: it cannot be {access}")
    await set_access(session, name, access)
    found = await _narrowed(session, composites)
    return {name: access} | {model: found[model] for model in found if sight.knows_of(model)}


async def _narrowed(session: DatabaseSession, composites: Sequence[_Composite]) -> dict[str, Access]:
    """Narrow composites that are more open than their parts; return their new accesses, by model."""
    known = await list_access(session)
    found = narrowed_composites(known, [(one.model, one.parts) for one in composites])
    for model, access in found.items():
        await set_access(session, model, access)
    return found


async def _composites(session: DatabaseSession, artifacts: ArtifactStore) -> list[_Composite]:
    architectures = {row.name: row for row in await list_architectures(session)}
    variants = {row.name: row for row in await list_variants(session)}
    found = list[_Composite]()
    for variant in variants.values():
        stages = await asyncio.to_thread(stages_of, variant, artifacts)
        used = [architectures[variants[s.variant].architecture] for s in stages if s.variant in variants]
        if used:
            parts = frozenset(name for row in used for name in (row.task, row.model))
            found.append(_Composite(architectures[variant.architecture].model, parts))
    return found
