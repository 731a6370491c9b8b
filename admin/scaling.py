"""Scaling: status, decisions, pins and pauses; each change by a person is also stored as a decision."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from admin.api import Empty, PageSize, RequestContext, endpoint, param
from schemas.access import Role
from schemas.errors import InvalidRequest, NotFound
from schemas.hardware import Hardware
from schemas.rows.audit import AuditVerb
from schemas.rows.cluster import ClusterRows, DecisionKind, DecisionRow, Pin, PinKind
from store.audit import audited_transaction
from store.pool import DatabaseSession
from store.registry import get_task, get_variant
from store.samples import list_decisions, write_decisions
from store.scaling import delete_pin, put_pin, read_cluster, set_paused

_Kind = Annotated[PinKind, param("Object to bound: instances of a task or variant, or workers of a hardware.")]
_Name = Annotated[str, param("Name of the task, the variant or the hardware.")]
_Bound = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
"""Number of instances or workers; a larger value is treated as a mistake."""
_LOOKED_AT: Final = 1000
"""Number of recent decisions that are searched for those of a policy."""


class DecisionsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed scaling decisions."""

    about: Annotated[
        str | None, param("Task, architecture, variant, worker or hardware; default: all decisions.", argument=True)
    ] = None
    latest: Annotated[PageSize, param("Maximum number of decisions.", "--latest", "-n")] = 20


class ExplanationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to explain the scale of something."""

    about: Annotated[str, param("Task, architecture, variant, worker or hardware.")]
    latest: Annotated[int, msgspec.Meta(ge=1, le=100), param("Maximum number of decisions.", "--latest", "-n")] = 1


class PinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on a number of instances or workers; they replace the previous bounds."""

    kind: _Kind
    name: _Name
    minimum: Annotated[_Bound | None, param("Minimum, even without load.", "--min")] = None
    maximum: Annotated[_Bound | None, param("Maximum, regardless of load.", "--max")] = None


class UnpinRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to remove a pin, so that load alone determines the number again."""

    kind: _Kind
    name: _Name


class ScaleHold(msgspec.Struct, frozen=True, kw_only=True):
    """State of the pause of scaling."""

    paused: bool
    changed: bool
    """True if this request changed the state."""


@endpoint("scale.status", "GET", "/v1/scale", Role.ADMIN)
async def status(context: RequestContext, _request: Empty) -> ClusterRows:
    """Show workers and instances, wanted and running, pins, and whether scaling is paused."""
    return await read_cluster(context.pool)


@endpoint("scale.history", "GET", "/v1/scale/decisions", Role.ADMIN)
async def history(context: RequestContext, request: DecisionsRequest) -> list[DecisionRow]:
    """List scaling decisions with their reasons, the latest last."""
    return (await list_decisions(context.pool, request.latest, about=request.about))[::-1]


@endpoint("scale.explain", "GET", "/v1/scale/explanations", Role.ADMIN)
async def explain(context: RequestContext, request: ExplanationRequest) -> list[DecisionRow]:
    """Show the last decisions on an object with all their inputs, the latest first.

    Raises:
        NotFound: there is no decision about it.
    """
    # A policy's decision explains more than the steps that followed from it, such as the start of a process.
    found = await list_decisions(context.pool, _LOOKED_AT, about=request.about)
    rows = [row for row in found if row.policy] or found
    if not rows:
        raise NotFound(f"there is no decision about {request.about!r}; `infaas scale history` lists all decisions")
    return rows[: request.latest]


@endpoint("scale.pin", "PUT", "/v1/scale/pins/{kind}/{name}", Role.ADMIN)
async def pin(context: RequestContext, request: PinRequest) -> Pin:
    """Set bounds on the instances of a task or variant, or the workers of a hardware. Replaces earlier bounds.

    Raises:
        InvalidRequest: no bound is given, or the minimum exceeds the maximum.
        NotFound: the object does not exist.
    """
    kind, name, minimum, maximum = request.kind, request.name, request.minimum, request.maximum
    if minimum is None and maximum is None:
        raise InvalidRequest("give --min, --max or both; `infaas scale unpin` removes bounds")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise InvalidRequest(f"the minimum, {minimum}, is more than the maximum, {maximum}")
    made = Pin(kind=kind, name=name, minimum=minimum, maximum=maximum, pinned_by=context.actor)
    act = context.act(AuditVerb.PIN, f"{kind} {name}", minimum=minimum, maximum=maximum)
    async with audited_transaction(context.pool, act) as session:
        await _check_exists(session, kind, name)
        await put_pin(session, made)
        await _record(session, "pin", f"by {made.pinned_by}: {made.bounds}", made)
    return made


@endpoint("scale.unpin", "DELETE", "/v1/scale/pins/{kind}/{name}", Role.ADMIN)
async def unpin(context: RequestContext, request: UnpinRequest) -> Empty:
    """Remove bounds; only load decides again.

    Raises:
        NotFound: it has no bounds.
    """
    kind, name = request.kind, request.name
    async with audited_transaction(context.pool, context.act(AuditVerb.UNPIN, f"{kind} {name}")) as session:
        if not await delete_pin(session, kind, name):
            raise NotFound(f"{kind} {name} is not pinned; `infaas scale status` shows the pins")
        await _record(session, "unpin", f"by {context.actor}", Pin(kind=kind, name=name))
    return Empty()


@endpoint("scale.pause", "POST", "/v1/scale/pause", Role.ADMIN)
async def pause(context: RequestContext, _request: Empty) -> ScaleHold:
    """Pause scaling until it is resumed, regardless of load; failed processes are still replaced. Idempotent."""
    return await _set_paused(context, AuditVerb.PAUSE, paused=True)


@endpoint("scale.resume", "POST", "/v1/scale/resume", Role.ADMIN)
async def resume(context: RequestContext, _request: Empty) -> ScaleHold:
    """Resume scaling by load. Idempotent."""
    return await _set_paused(context, AuditVerb.RESUME, paused=False)


async def _set_paused(context: RequestContext, verb: AuditVerb, *, paused: bool) -> ScaleHold:
    async with audited_transaction(context.pool, context.act(verb)) as session:
        changed = await set_paused(session, paused, context.actor)
        if changed:
            await _record(session, verb, f"by {context.actor}")
    return ScaleHold(paused=paused, changed=changed)


async def _check_exists(session: DatabaseSession, kind: PinKind, name: str) -> None:
    """Check that an object exists: bounds for a mistyped name would silently have no effect."""
    known: Any = True
    match kind:
        case PinKind.TASK:
            known = await get_task(session, name)
        case PinKind.VARIANT:
            known = await get_variant(session, name)
        case PinKind.HARDWARE:
            known = name in {*Hardware}
    if not known:
        where = f"it is one of {', '.join(Hardware)}" if kind is PinKind.HARDWARE else f"see `infaas {kind}s`"
        raise NotFound(f"there is no {kind} {name!r}: {where}")


async def _record(session: DatabaseSession, action: str, reason: str, pin: Pin | None = None) -> None:
    subject = {pin.kind.value: pin.name} if pin is not None else {}
    row = DecisionRow(
        at=datetime.now(UTC),
        kind=DecisionKind.CONTROL,
        action=action,
        variant=subject.get("variant", ""),
        hardware=subject.get("hardware", ""),
        reason=f"{pin.kind} {pin.name} {reason}" if pin is not None else reason,
        inputs=subject | ({"minimum": pin.minimum, "maximum": pin.maximum} if pin is not None else {}),
    )
    await write_decisions(session, [row])


SCALING: Final = (status, history, explain, pin, unpin, pause, resume)
