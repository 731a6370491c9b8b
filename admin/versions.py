"""Versions of models and their rollout."""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from admin.binding import bind
from admin.control import RequestContext
from registry.access import read_sight
from registry.rollouts import RolloutChange, canary, finished, rolled_back, shadow
from schemas.endpoints.versions import (
    HISTORY,
    ROLLBACK,
    ROLLOUT,
    HistoryRequest,
    ModelHistory,
    RollbackRequest,
    RolloutChanged,
    RolloutRequest,
)
from schemas.errors import InvalidRequest, NotFound, OperatorError
from schemas.rows.audit import AuditVerb
from schemas.rows.catalog import VariantState
from schemas.rows.rollout import Rollout, VersionEventKind
from store.pool import DatabaseSession, Pool
from store.registry import get_architecture, list_profiles
from store.rollouts import change_rollout, get_rollout, list_comparisons, list_events, list_versions


async def history(control: RequestContext, request: HistoryRequest) -> ModelHistory:
    """List the versions of a model and their events.

    Raises:
        NotFound: the model does not exist.
    """
    return await _read(control, request.model)


async def rollout(control: RequestContext, request: RolloutRequest) -> RolloutChanged:
    """Start a canary or a shadow of a version, or make the version serve.

    Raises:
        InvalidRequest: the request holds no step, or contradicts itself.
        NotFound: the model or the version does not exist.
        Forbidden: the model belongs to another owner.
        OperatorError: the model has one version only; the version serves already or is not ready; or another change to
            the rollout came first.
    """
    steps, warnings = _steps(request, control.actor), list[str]()
    known = await _read(control, request.model, to_change=True)
    for step in steps:
        version = _chosen(known, request.version)
        now, event = step(known.rollout, version)
        if now.serving != known.rollout.serving:
            warnings += await _warnings(control.pool, known, version)
        asked = {"version": version, "what": event.kind, "detail": event.detail}
        act = control.act(AuditVerb.ROLLOUT, request.model, **asked)
        await change_rollout(control.pool, known.rollout, now, event, act)
        known = await _read(control, request.model, to_change=True)
    return RolloutChanged(history=known, warnings=tuple(warnings))


async def rollback(control: RequestContext, request: RollbackRequest) -> RolloutChanged:
    """End the rollout of the candidate version; without a candidate, let the previous version serve again.

    Raises:
        NotFound: the model does not exist.
        Forbidden: the model belongs to another owner.
        OperatorError: there is no version to go back to, or another change to the rollout came first.
    """
    known = await _read(control, request.model, to_change=True)
    change = rolled_back(known.rollout, control.actor)
    await change_rollout(control.pool, known.rollout, *change, control.act(AuditVerb.ROLLBACK, request.model))
    return RolloutChanged(history=await _read(control, request.model, to_change=True))


async def _read(control: RequestContext, model: str, *, to_change: bool = False) -> ModelHistory:
    async with control.pool.snapshot() as session:
        sight = await read_sight(session, control.principal)
        found = await list_versions(session, model)
        of = await get_architecture(session, model)
        versions = tuple(sight.filter_visible(found))
        if not versions:
            is_version = of is not None and sight.sees(of)
            hint = f": it is version {of.version} of {of.model}" if of is not None and is_version else ""
            raise NotFound(f"there is no model {model!r}{hint}; `infaas models` lists the models")
        if to_change:
            sight.check_may_change(found)
        rollout = await get_rollout(session, model) or Rollout(model=model, serving=versions[0].version)
        history = ModelHistory(
            versions=versions,
            rollout=rollout,
            events=tuple(await list_events(session, model)),
            comparisons=tuple(await list_comparisons(session, model)),
        )
        return history if sight.knows(versions[0]) else _as_users_see(history)


def _as_users_see(history: ModelHistory) -> ModelHistory:
    """Remove actors, details and comparisons, which only owners may see."""
    events = tuple(replace(event, by="", detail="") for event in history.events)
    return replace(history, events=events, comparisons=())


def _steps(request: RolloutRequest, by: str) -> list[Callable[[Rollout, int], RolloutChange]]:
    """Return the steps of a request; each is applied to the rollout and version as they are after the one before."""
    share, copied = request.share, request.shadow
    steps: list[Callable[[Rollout, int], RolloutChange]] = []
    if share is not None:
        steps.append(lambda rollout, version: canary(rollout, version, share, by))
    if copied is not None:
        steps.append(lambda rollout, version: shadow(rollout, version, copied, by))
    if request.finish:
        steps.append(lambda rollout, version: finished(rollout, version, VersionEventKind.FINISHED, by))
    if request.finish and len(steps) > 1:
        raise InvalidRequest("--finish ends a rollout: give it alone")
    if not steps:
        raise InvalidRequest("set a share, a share of copies, or finish")
    return steps


def _chosen(known: ModelHistory, number: int | None) -> int:
    """Return the version that is named, else the candidate, else the newest; check that it is registered."""
    model, numbers = known.rollout.model, [row.version for row in known.versions]
    if len(numbers) < 2:
        raise OperatorError(
            f"{model} has one version: `infaas register` a changed file as --name {model} --hold to add another one"
        )
    version = number or known.rollout.candidate or numbers[-1]
    if version not in numbers:
        raise NotFound(
            f"{model} has no version {version}; there is {', '.join(map(str, numbers))}: `infaas history {model}`"
        )
    return version


async def _warnings(pool: Pool, known: ModelHistory, version: int) -> list[str]:
    """Return warnings about a version that is to replace the serving one."""
    serving, names = known.rollout.serving, {row.version: row.name for row in known.versions}
    before, after = await _best_accuracy(pool, names[serving]), await _best_accuracy(pool, names[version])
    if not after:
        raise OperatorError(
            f"version {version} of {known.rollout.model} has no variant that is ready: `infaas variants`"
        )
    if after >= before:
        return []
    return [
        f"version {version} reaches an accuracy of {after:.4f}, version {serving} one of {before:.4f}: queries that "
        f"need more than {after:.4f} go to other models or are refused"
    ]


async def _best_accuracy(session: DatabaseSession, architecture: str) -> float:
    profiles = await list_profiles(session, architecture=architecture, state=VariantState.READY)
    return max((profile.accuracy for profile in profiles), default=0.0)


BINDINGS: Final = (bind(HISTORY, history), bind(ROLLOUT, rollout), bind(ROLLBACK, rollback))
