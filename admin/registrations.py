"""Requests for registrations: checked without reading files, then stored until a registrar executes them.

A caller without the role admin registers for its own tenant alone: new objects belong to the tenant and are private by
default, and objects of other owners stay unchanged.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from admin.api import PageSize, RequestContext, endpoint, param
from admin.tenants import MOST_PARTITIONS
from process.security.access import check_access
from registry.access import check_publisher, read_sight
from registry.artifact_settings import name_in_store
from registry.quality import is_function
from registry.request import Registration
from schemas.access import Access, Role
from schemas.errors import Forbidden, InvalidRequest, NotFound, OperatorError, QuotaExceeded
from schemas.names import check_name
from schemas.registrations import (
    CascadeToRegister,
    ChainToRegister,
    ListedRegistration,
    ModelToRegister,
    RegistrationStatus,
    ToRegister,
    files_of,
    kind_of_request,
)
from schemas.rows.audit import AuditVerb
from schemas.rows.registrations import NewRegistration
from store.audit import audited_transaction
from store.registrations import cancel_registration, get_registration, list_registrations, put_registration
from store.registry import get_task, get_variant


class RegistrationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for one registration."""

    id: Annotated[str, param("Id from `infaas register` or `list`.", metavar="ID")]


class RegistrationsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a list of registrations."""

    limit: Annotated[PageSize, param("Maximum number, latest first.")] = 100


MOST_OPEN: Final = 100
"""Maximum number of unfinished registrations of a tenant."""
_MOST_BYTES: Final = 1 << 20


@endpoint("registrations.model", "POST", "/v1/registrations", Role.PUBLISH, status=202)
async def model(context: RequestContext, request: ModelToRegister) -> RegistrationStatus:
    """Register a model from uploaded files. Idempotent."""
    if request.measure is not None and is_function(request.measure):
        raise InvalidRequest(
            f"{request.measure} is Python code, which remote registrations may not use: run `infaas register` on the "
            "system's machine"
        )
    if any(one.folder for one in request.beside):
        raise InvalidRequest("companion files must be files, not folders: give a model that is a folder as `file`")
    if request.partitions > MOST_PARTITIONS and _publisher(context) is not None:
        raise InvalidRequest(
            f"topics of a new task may have at most {MOST_PARTITIONS} partitions, and get more when needed: "
            "only administrators may set more"
        )
    access = _access(context, request.access)
    _checkable(request).check()
    await check_publisher(context.pool, _publisher(context), request.name, request.task, access)
    return await _ask(context, replace(request, access=access), request.name)


@endpoint("registrations.cascade", "POST", "/v1/registrations/cascades", Role.PUBLISH, status=202)
async def cascade(context: RequestContext, request: CascadeToRegister) -> RegistrationStatus:
    """Register a cascade of two variants, or search for worthwhile cascades. Idempotent."""
    stages = [name for name in (request.first, request.then) if name is not None]
    if len(stages) == 1:
        raise InvalidRequest("a cascade needs two variants: give `first` and `then`, or neither to search for cascades")
    if not stages and (request.name or request.thresholds or request.min_accuracies):
        raise InvalidRequest("a search for cascades chooses names and thresholds itself: leave them out")
    access = _access(context, request.access)
    await _check_sees(context, [request.task], stages)
    if request.name is not None:
        check_name("model", request.name)
        await check_publisher(context.pool, _publisher(context), request.name, request.task, access)
    name = request.name or "-or-".join(variant.partition(".")[0] for variant in stages) or request.task
    return await _ask(context, replace(request, access=access), name)


@endpoint("registrations.chain", "POST", "/v1/registrations/chains", Role.PUBLISH, status=202)
async def chain(context: RequestContext, request: ChainToRegister) -> RegistrationStatus:
    """Register a chain of tasks, which is a task itself. Idempotent."""
    check_name("task", request.name)
    access = _access(context, request.access)
    await _check_sees(context, request.tasks, {name for names in request.through for name in names})
    await check_publisher(context.pool, _publisher(context), f"{request.name}-chain", request.name, access)
    return await _ask(context, replace(request, access=access), request.name)


@endpoint("registrations.show", "GET", "/v1/registrations/{id}", Role.PUBLISH)
async def show(context: RequestContext, request: RegistrationRequest) -> RegistrationStatus:
    """Show the progress and the result of a registration.

    Raises:
        NotFound: the registration does not exist, or belongs to another tenant.
    """
    row = await get_registration(context.pool, request.id, tenant=_publisher(context))
    if row is None:
        raise NotFound(f"there is no registration {request.id[:80]!r}")
    return row


@endpoint("registrations.list", "GET", "/v1/registrations", Role.PUBLISH)
async def list_all(context: RequestContext, request: RegistrationsRequest) -> list[ListedRegistration]:
    """List the registrations of the caller's tenant, for administrators of all tenants; the latest first."""
    return await list_registrations(context.pool, tenant=_publisher(context), limit=request.limit)


@endpoint("registrations.cancel", "DELETE", "/v1/registrations/{id}", Role.PUBLISH)
async def cancel(context: RequestContext, request: RegistrationRequest) -> RegistrationStatus:
    """Cancel a registration that has not ended; ready variants are kept, and registering again resumes.

    Raises:
        NotFound: the registration does not exist, or belongs to another tenant.
        OperatorError: the registration has ended.
    """
    row = await show(context, request)
    act = context.act(AuditVerb.CANCEL_REGISTRATION, row.name, registration=row.id)
    async with audited_transaction(context.pool, act) as session:
        if not await cancel_registration(session, row.id):
            raise OperatorError(f"registration {row.id} has ended")
    return await show(context, request)


async def _ask(context: RequestContext, request: ToRegister, name: str) -> RegistrationStatus:
    """Store a registration.

    Raises:
        InvalidRequest: the request is invalid.
        Forbidden: the caller may not register this.
        OperatorError: a name is taken, or an upload is missing.
        QuotaExceeded: the tenant has too many unfinished registrations.
    """
    publisher, tenant = _publisher(context), context.principal.tenant or ""
    named = list(files_of(request))
    for given in named:
        given.check()
        if given.url:
            name_in_store(given.url, context.artifacts, context.home, publisher)
    if len(msgspec.json.encode(request)) > _MOST_BYTES:
        raise InvalidRequest("the request is longer than 1 MiB: put long lists into files")
    row = NewRegistration(
        id=uuid4().hex,
        kind=kind_of_request(request),
        name=name,
        tenant=tenant,
        publisher=publisher is not None,
        asked_by=context.actor,
        origin=context.origin,
        request=msgspec.to_builtins(request),
        uploads=tuple(sorted({given.upload for given in named if given.upload})),
    )
    if not await put_registration(context.pool, row, MOST_OPEN):
        raise QuotaExceeded(f"{MOST_OPEN} registrations have not ended: wait for them, or cancel some")
    return await show(context, RegistrationRequest(id=row.id))


async def _check_sees(context: RequestContext, tasks: Collection[str], variants: Collection[str]) -> None:
    """Check that the caller sees the parts of a composite.

    Raises:
        NotFound: a part does not exist, or the caller does not see it.
    """
    sight = await read_sight(context.pool, context.principal)
    for name in tasks:
        task = await get_task(context.pool, name)
        if task is None or not sight.sees(task):
            raise NotFound(f"there is no task {name[:80]!r}: `infaas tasks` lists them")
    for name in variants:
        variant = await get_variant(context.pool, name)
        if variant is None or not sight.sees(variant):
            raise NotFound(f"there is no variant {name[:80]!r}: `infaas variants` lists them")


def _publisher(context: RequestContext) -> str | None:
    """Return the only tenant that the caller may register for; None for administrators.

    Raises:
        Forbidden: the caller has no tenant.
    """
    if context.principal.has(Role.ADMIN):
        return None
    if context.principal.tenant is None:
        raise Forbidden("only a key with a tenant can register: create one with --tenant")
    return context.principal.tenant


def _access(context: RequestContext, said: Access | None) -> Access | None:
    """Return the checked access of new objects; owned by the publisher unless the caller is an administrator."""
    publisher = _publisher(context)
    if said is None:
        return None
    if publisher is not None:
        if said.owner not in (None, publisher):
            raise Forbidden(f"new objects must belong to your tenant, {publisher}")
        said = replace(said, owner=publisher)
    return check_access(said)


def _checkable(request: ModelToRegister) -> Registration:
    """Return the registration as it can be checked without its files."""
    validation, calibration = request.validation, request.calibration
    return Registration(
        architecture=request.name,
        task=request.task,
        file=Path(request.file.name),
        validation=validation and Path(validation.name),
        calibration=calibration and Path(calibration.name),
        accuracy=request.accuracy,
        measure=request.measure,
        max_batch=request.max_batch,
        sequences=request.sequences,
        context_tokens=request.context_tokens,
        partitions=request.partitions,
        threads=request.threads,
        cores=request.cores,
    )


REGISTRATIONS: Final = (model, cascade, chain, list_all, show, cancel)
