"""Versions of models and their rollout."""

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from admin.api import RequestContext, endpoint, param
from registry.access import read_sight
from registry.versions import RolloutChange, canary, finished, rolled_back, shadow
from schemas.access import Role
from schemas.errors import InvalidRequest, NotFound, OperatorError
from schemas.rows.audit import AuditVerb
from schemas.rows.catalog import Architecture, VariantState
from schemas.versions import Rollout, VersionComparison, VersionEvent, VersionEventKind
from store.pool import DatabaseSession, Pool
from store.registry import get_architecture, list_profiles
from store.rollouts import change_rollout, get_rollout, list_comparisons, list_events, list_versions

_Model = Annotated[str, param("Name of a model.", metavar="MODEL")]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_VersionNumber = Annotated[int, msgspec.Meta(ge=1, le=999_999_999)]


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the versions of a model."""

    model: _Model


class ModelHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of a model, with their rollout and its history."""

    versions: tuple[Architecture, ...]
    rollout: Rollout
    events: tuple[VersionEvent, ...]
    comparisons: tuple[VersionComparison, ...]
    """Comparisons of answers on copies of queries."""


class RolloutRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to try a version, or to make it serve."""

    model: str
    version: Annotated[_VersionNumber | None, param("Version; null: the version on trial, or else the newest.")] = None
    share: Annotated[_Share | None, param("Share of the queries that it answers, 0..1; null: unchanged.")] = None
    shadow: Annotated[_Share | None, param("Share of the queries copied to it, 0..1; null: unchanged.")] = None
    finish: Annotated[bool, param("Make this version serve instead of the present one.")] = False


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to end the trial of a version; if none is on trial, the previous version serves again."""

    model: _Model


class RolloutChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a rollout or rollback."""

    history: ModelHistory
    warnings: tuple[str, ...] = ()
    """Warnings about the new state; empty: none."""


@endpoint("models.history", "GET", "/v1/models/{model}/history", Role.QUERY)
async def history(context: RequestContext, request: HistoryRequest) -> ModelHistory:
    """List the versions of a model with their states, and all rollouts and rollbacks.

    Raises:
        NotFound: the model does not exist.
    """
    return await _read(context, request.model)


@endpoint("models.rollout", "POST", "/v1/models/{model}/rollout", Role.PUBLISH)
async def rollout(context: RequestContext, request: RolloutRequest) -> RolloutChanged:
    """Try a version of a model on a share of its queries, or make it serve.

    Raises:
        InvalidRequest: the request holds no step, or contradicts itself.
        NotFound: the model or the version does not exist.
        Forbidden: the model belongs to another owner.
        OperatorError: the model has one version only; the version serves already or is not ready; or another change to
            the rollout came first.
    """
    steps, warnings = _steps(request, context.actor), list[str]()
    known = await _read(context, request.model, to_change=True)
    for step in steps:
        version = _chosen(known, request.version)
        now, event = step(known.rollout, version)
        if now.serving != known.rollout.serving:
            warnings += await _warnings(context.pool, known, version)
        asked = {"version": version, "what": event.kind, "detail": event.detail}
        act = context.act(AuditVerb.ROLLOUT, request.model, **asked)
        await change_rollout(context.pool, known.rollout, now, event, act)
        known = await _read(context, request.model, to_change=True)
    return RolloutChanged(history=known, warnings=tuple(warnings))


@endpoint("models.rollback", "POST", "/v1/models/{model}/rollback", Role.PUBLISH)
async def rollback(context: RequestContext, request: RollbackRequest) -> RolloutChanged:
    """Withdraw the version under trial; if there is none, the previous version serves again.

    Raises:
        NotFound: the model does not exist.
        Forbidden: the model belongs to another owner.
        OperatorError: there is no version to go back to, or another change to the rollout came first.
    """
    known = await _read(context, request.model, to_change=True)
    change = rolled_back(known.rollout, context.actor)
    await change_rollout(context.pool, known.rollout, *change, context.act(AuditVerb.ROLLBACK, request.model))
    return RolloutChanged(history=await _read(context, request.model, to_change=True))


async def _read(context: RequestContext, model: str, *, to_change: bool = False) -> ModelHistory:
    async with context.pool.snapshot() as session:
        sight = await read_sight(session, context.principal)
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


VERSIONS: Final = (history, rollout, rollback)
