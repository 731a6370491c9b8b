"""Scaling: status, decisions, pins and pauses; each change by a person is also stored as a decision."""

from datetime import UTC, datetime
from typing import Any, Final

from admin.binding import bind
from admin.control import RequestContext
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.scaling import (
    EXPLAIN,
    HISTORY,
    PAUSE,
    PIN,
    RESUME,
    STATUS,
    UNPIN,
    DecisionsRequest,
    ExplanationRequest,
    PinRequest,
    ScaleHold,
    UnpinRequest,
)
from schemas.errors import InvalidRequest, NotFound
from schemas.hardware import Hardware
from schemas.rows.audit import AuditVerb
from schemas.rows.cluster import ClusterRows
from schemas.rows.scaling import DecisionKind, DecisionRow, Pin, PinKind
from store.audit import audited_transaction
from store.cluster import read_cluster
from store.pool import DatabaseSession
from store.registry import get_task, get_variant
from store.samples import list_decisions, write_decisions
from store.scaling import delete_pin, put_pin, set_paused

_LOOKED_AT: Final = 1000
"""Number of recent decisions that are searched for those of a policy."""


async def status(control: RequestContext, _request: Empty) -> ClusterRows:
    """Return the wanted and the present state of the cluster."""
    return await read_cluster(control.pool)


async def history(control: RequestContext, request: DecisionsRequest) -> list[DecisionRow]:
    """List decisions in chronological order."""
    return (await list_decisions(control.pool, request.latest, about=request.about))[::-1]


async def explain(control: RequestContext, request: ExplanationRequest) -> list[DecisionRow]:
    """List the last decisions about an object, the latest first.

    Decisions of a policy are preferred to the steps that followed from them, such as the start of a process.

    Raises:
        NotFound: there is no decision about it.
    """
    found = await list_decisions(control.pool, _LOOKED_AT, about=request.about)
    rows = [row for row in found if row.policy] or found
    if not rows:
        raise NotFound(f"there is no decision about {request.about!r}; `infaas scale history` lists all decisions")
    return rows[: request.latest]


async def pin(control: RequestContext, request: PinRequest) -> Pin:
    """Set the bounds of a task, a variant or a hardware type.

    Raises:
        InvalidRequest: no bound is given, or the minimum exceeds the maximum.
        NotFound: the object does not exist.
    """
    kind, name, minimum, maximum = request.kind, request.name, request.minimum, request.maximum
    if minimum is None and maximum is None:
        raise InvalidRequest("give --min, --max or both; `infaas scale unpin` removes bounds")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise InvalidRequest(f"the minimum, {minimum}, is more than the maximum, {maximum}")
    made = Pin(kind=kind, name=name, minimum=minimum, maximum=maximum, pinned_by=control.actor)
    act = control.act(AuditVerb.PIN, f"{kind} {name}", minimum=minimum, maximum=maximum)
    async with audited_transaction(control.pool, act) as session:
        await _check_exists(session, kind, name)
        await put_pin(session, made)
        await _record(session, "pin", f"by {made.pinned_by}: {made.bounds}", made)
    return made


async def unpin(control: RequestContext, request: UnpinRequest) -> Empty:
    """Remove the bounds of an object.

    Raises:
        NotFound: it has no bounds.
    """
    kind, name = request.kind, request.name
    async with audited_transaction(control.pool, control.act(AuditVerb.UNPIN, f"{kind} {name}")) as session:
        if not await delete_pin(session, kind, name):
            raise NotFound(f"{kind} {name} is not pinned; `infaas scale status` shows the pins")
        await _record(session, "unpin", f"by {control.actor}", Pin(kind=kind, name=name))
    return Empty()


async def pause(control: RequestContext, _request: Empty) -> ScaleHold:
    """Pause scaling: the scale stays as it is; failed processes are still restarted."""
    return await _set_paused(control, AuditVerb.PAUSE, paused=True)


async def resume(control: RequestContext, _request: Empty) -> ScaleHold:
    """Resume scaling with load."""
    return await _set_paused(control, AuditVerb.RESUME, paused=False)


async def _set_paused(control: RequestContext, verb: AuditVerb, *, paused: bool) -> ScaleHold:
    async with audited_transaction(control.pool, control.act(verb)) as session:
        changed = await set_paused(session, paused, control.actor)
        if changed:
            await _record(session, verb, f"by {control.actor}")
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


BINDINGS: Final = (
    bind(STATUS, status),
    bind(HISTORY, history),
    bind(EXPLAIN, explain),
    bind(PIN, pin),
    bind(UNPIN, unpin),
    bind(PAUSE, pause),
    bind(RESUME, resume),
)
