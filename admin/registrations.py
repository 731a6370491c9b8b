"""Requests for registrations: checked without reading files, then stored until a registrar executes them.

A caller without the role admin registers for its own tenant alone: new objects belong to the tenant and are private by
default, and objects of other owners stay unchanged.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from admin.binding import bind
from admin.control import RequestContext
from registry.access import check_publisher, read_sight
from registry.artifact_settings import name_in_store
from registry.quality import is_function
from registry.registration import Registration
from schemas.access import Access
from schemas.endpoints.registrations import (
    CANCEL,
    CASCADE,
    CHAIN,
    LIST,
    MODEL,
    SHOW,
    RegistrationRequest,
    RegistrationsRequest,
)
from schemas.endpoints.tenants import MOST_PARTITIONS
from schemas.errors import Forbidden, InvalidRequest, NotFound, OperatorError, QuotaExceeded
from schemas.names import check_name
from schemas.principal import Role
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
from security.access import check_access
from store.audit import audited_transaction
from store.registrations import cancel_registration, get_registration, list_registrations, put_registration
from store.registry import get_task, get_variant

MOST_OPEN: Final = 100
"""Maximum number of unfinished registrations of a tenant."""
_MOST_BYTES: Final = 1 << 20


async def model(control: RequestContext, request: ModelToRegister) -> RegistrationStatus:
    """Request the registration of a model; raises as `_ask` does."""
    if request.measure is not None and is_function(request.measure):
        raise InvalidRequest(
            f"{request.measure} is Python code, which remote registrations may not use: run `infaas register` on the "
            "system's machine"
        )
    if any(one.folder for one in request.beside):
        raise InvalidRequest("companion files must be files, not folders: give a model that is a folder as `file`")
    if request.partitions > MOST_PARTITIONS and _publisher(control) is not None:
        raise InvalidRequest(
            f"a new model may have at most {MOST_PARTITIONS} partitions for each variant, and gets more when needed: "
            "only administrators may set more"
        )
    access = _access(control, request.access)
    _checkable(request).check()
    await check_publisher(control.pool, _publisher(control), request.name, request.task, access)
    return await _ask(control, replace(request, access=access), request.name)


async def cascade(control: RequestContext, request: CascadeToRegister) -> RegistrationStatus:
    """Request the registration of a cascade, or a search for worthwhile ones; raises as `_ask` and `_check_sees` do."""
    stages = [name for name in (request.first, request.then) if name is not None]
    if len(stages) == 1:
        raise InvalidRequest("a cascade needs two variants: give `first` and `then`, or neither to search for cascades")
    if not stages and (request.name or request.thresholds or request.min_accuracies):
        raise InvalidRequest("a search for cascades chooses names and thresholds itself: leave them out")
    access = _access(control, request.access)
    await _check_sees(control, [request.task], stages)
    if request.name is not None:
        check_name("model", request.name)
        await check_publisher(control.pool, _publisher(control), request.name, request.task, access)
    name = request.name or "-or-".join(variant.partition(".")[0] for variant in stages) or request.task
    return await _ask(control, replace(request, access=access), name)


async def chain(control: RequestContext, request: ChainToRegister) -> RegistrationStatus:
    """Request the registration of a chain; raises as `_ask` and `_check_sees` do."""
    check_name("task", request.name)
    access = _access(control, request.access)
    await _check_sees(control, request.tasks, {name for names in request.through for name in names})
    await check_publisher(control.pool, _publisher(control), f"{request.name}-chain", request.name, access)
    return await _ask(control, replace(request, access=access), request.name)


async def show(control: RequestContext, request: RegistrationRequest) -> RegistrationStatus:
    """Return the status of a registration.

    Raises:
        NotFound: the registration does not exist, or belongs to another tenant.
    """
    row = await get_registration(control.pool, request.id, tenant=_publisher(control))
    if row is None:
        raise NotFound(f"there is no registration {request.id[:80]!r}")
    return row


async def list_all(control: RequestContext, request: RegistrationsRequest) -> list[ListedRegistration]:
    """List registrations: all for administrators, else those of the caller's tenant."""
    return await list_registrations(control.pool, tenant=_publisher(control), limit=request.limit)


async def cancel(control: RequestContext, request: RegistrationRequest) -> RegistrationStatus:
    """Cancel a registration.

    Raises:
        NotFound: the registration does not exist, or belongs to another tenant.
        OperatorError: the registration has ended.
    """
    row = await show(control, request)
    act = control.act(AuditVerb.CANCEL_REGISTRATION, row.name, registration=row.id)
    async with audited_transaction(control.pool, act) as session:
        if not await cancel_registration(session, row.id):
            raise OperatorError(f"registration {row.id} has ended")
    return await show(control, request)


async def _ask(control: RequestContext, request: ToRegister, name: str) -> RegistrationStatus:
    """Store a registration.

    Raises:
        InvalidRequest: the request is invalid.
        Forbidden: the caller may not register this.
        OperatorError: a name is taken, or an upload is missing.
        QuotaExceeded: the tenant has too many unfinished registrations.
    """
    publisher, tenant = _publisher(control), control.principal.tenant or ""
    named = list(files_of(request))
    for given in named:
        given.check()
        if given.url:
            name_in_store(given.url, control.artifacts, control.home, publisher)
    if len(msgspec.json.encode(request)) > _MOST_BYTES:
        raise InvalidRequest("the request is longer than 1 MiB: put long lists into files")
    row = NewRegistration(
        id=uuid4().hex,
        kind=kind_of_request(request),
        name=name,
        tenant=tenant,
        publisher=publisher is not None,
        asked_by=control.actor,
        origin=control.origin,
        request=msgspec.to_builtins(request),
        uploads=tuple(sorted({given.upload for given in named if given.upload})),
    )
    if not await put_registration(control.pool, row, MOST_OPEN):
        raise QuotaExceeded(f"{MOST_OPEN} registrations have not ended: wait for them, or cancel some")
    return await show(control, RegistrationRequest(id=row.id))


async def _check_sees(control: RequestContext, tasks: Collection[str], variants: Collection[str]) -> None:
    """Check that the caller sees the parts of a composite.

    Raises:
        NotFound: a part does not exist, or the caller does not see it.
    """
    sight = await read_sight(control.pool, control.principal)
    for name in tasks:
        task = await get_task(control.pool, name)
        if task is None or not sight.sees(task):
            raise NotFound(f"there is no task {name[:80]!r}: `infaas tasks` lists them")
    for name in variants:
        variant = await get_variant(control.pool, name)
        if variant is None or not sight.sees(variant):
            raise NotFound(f"there is no variant {name[:80]!r}: `infaas variants` lists them")


def _publisher(control: RequestContext) -> str | None:
    """Return the only tenant that the caller may register for; None for administrators.

    Raises:
        Forbidden: the caller has no tenant.
    """
    if control.principal.has(Role.ADMIN):
        return None
    if control.principal.tenant is None:
        raise Forbidden("only a key with a tenant can register: create one with --tenant")
    return control.principal.tenant


def _access(control: RequestContext, said: Access | None) -> Access | None:
    """Return the checked access of new objects; owned by the publisher unless the caller is an administrator."""
    publisher = _publisher(control)
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
        partitions=request.partitions,
        threads=request.threads,
        cores=request.cores,
    )


BINDINGS: Final = (
    bind(MODEL, model),
    bind(CASCADE, cascade),
    bind(CHAIN, chain),
    bind(LIST, list_all),
    bind(SHOW, show),
    bind(CANCEL, cancel),
)
