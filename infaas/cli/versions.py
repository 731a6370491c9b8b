"""`infaas history`, `rollout` and `rollback`: the versions of a model, and which of them answers."""

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
import typer

from infaas.cli.connect import DEFAULT_HOME, Home, Json, act_here, asked_by, with_database
from infaas.cli.output import date_time, err, ms, show, show_json, table
from registry.rollouts import RolloutChange, canary, finished, rolled_back, shadow
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.audit import AuditVerb
from schemas.rows.catalog import Architecture, VariantState
from schemas.rows.rollout import Rollout, VersionComparison, VersionEvent, VersionEventKind
from store.pool import Pool
from store.registry import get_architecture, list_profiles
from store.rollouts import change_rollout, get_rollout, list_comparisons, list_events, list_versions

_ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model.")]
_VersionArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL[@VERSION]", help="A model, and which version; else the one tried, or the newest."),
]


class ModelHistory(msgspec.Struct, frozen=True):
    """The versions of a model, what answers, and what happened."""

    versions: Sequence[Architecture]
    rollout: Rollout
    events: Sequence[VersionEvent]
    comparisons: Sequence[VersionComparison]
    """What copies of queries showed."""


def history(model: _ModelArgument, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """List the versions of a model: when, what changed, who asked, what each does; and every rollout and rollback."""
    found = with_database(home, lambda pool: _read(pool, model))
    if as_json:
        return show_json(found)
    registered = {event.version: event for event in found.events if event.kind is VersionEventKind.REGISTERED}
    rows = [_version_row(row, state_of(row.version, found), registered.get(row.version)) for row in found.versions]
    show(table(("version>", "registered", "by", "state", "file", "what changed"), rows))
    later = [event for event in found.events if event.kind is not VersionEventKind.REGISTERED]
    if later:
        lines = [(date_time(e.at), e.version, e.kind.value, e.by, e.detail) for e in later]
        show(table(("at", "version>", "what", "by", "details"), lines, title="Rollouts"))
    return _show_comparisons(found)


def rollout(
    model: _VersionArgument,
    share: Annotated[
        str | None, typer.Option("--canary", "--share", metavar="5%", help="Share of the queries that it answers.")
    ] = None,
    copies: Annotated[
        str | None, typer.Option("--shadow", metavar="10%", help="Share of the queries that it is given a copy of.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Have it serve, instead of the one that does.")] = False,
    back: Annotated[bool, typer.Option("--rollback", help="As `infaas rollback`.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Try a version of a model on a share of its queries, or have it serve; without an option, show what does."""
    name, number = _parsed(model)
    steps: list[Callable[[ModelHistory, int], RolloutChange]] = []
    if share is not None:
        part = _share(share)
        steps.append(lambda known, version: canary(known.rollout, version, part, asked_by()))
    if copies is not None:
        copied = _share(copies)
        steps.append(lambda known, version: shadow(known.rollout, version, copied, asked_by()))
    if finish:
        kind = VersionEventKind.FINISHED
        steps.append(lambda known, version: finished(known.rollout, version, kind, asked_by()))
    if back:
        return rollback(name, home, as_json)
    if finish and len(steps) > 1:
        raise InvalidRequest("--finish ends a rollout: give it alone")
    found = with_database(home, lambda pool: _change(pool, name, number, steps))
    return _show_rollout(found, as_json=as_json)


def rollback(model: _ModelArgument, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Have the version that is tried answer nothing from now on; if none is, the one before serve again."""

    async def change(pool: Pool) -> ModelHistory:
        known = await _read(pool, model)
        await change_rollout(
            pool, known.rollout, *rolled_back(known.rollout, asked_by()), act_here(AuditVerb.ROLLBACK, model)
        )
        return await _read(pool, model)

    return _show_rollout(with_database(home, change), as_json=as_json)


def state_of(version: int, known: ModelHistory) -> str:
    """What a version does, in words."""
    rollout = known.rollout
    if version == rollout.serving:
        return "serving"
    if version == rollout.candidate:
        parts = [(rollout.share, "canary"), (rollout.shadow, "shadow")]
        return ", ".join(f"{what} {100 * share:.4g} %" for share, what in parts if share) or "held"
    tried = any(e.version == version and e.kind is not VersionEventKind.REGISTERED for e in known.events)
    return "retired" if tried or version < rollout.serving else "held"


async def _read(pool: Pool, model: str) -> ModelHistory:
    async with pool.snapshot() as session:
        versions = await list_versions(session, model)
        if not versions:
            of = await get_architecture(session, model)
            hint = f": it is version {of.version} of {of.model}" if of is not None else ""
            raise OperatorError(f"there is no model {model!r}{hint}; `infaas models` lists what is registered")
        found = await get_rollout(session, model) or Rollout(model=model, serving=versions[0].version)
        return ModelHistory(versions, found, await list_events(session, model), await list_comparisons(session, model))


async def _change(
    pool: Pool, model: str, number: int | None, steps: Sequence[Callable[[ModelHistory, int], RolloutChange]]
) -> ModelHistory:
    known = await _read(pool, model)
    for step in steps:
        if len(known.versions) < 2:
            raise OperatorError(
                f"{model} has one version: `infaas register` a changed file as --name {model} --hold, and that is its "
                "next"
            )
        version = _chosen(known, number)
        now, event = step(known, version)
        if now.serving != known.rollout.serving:
            await _warn_of_accuracy(pool, known, version)
        asked = {"version": version, "what": event.kind, "detail": event.detail}
        await change_rollout(pool, known.rollout, now, event, act_here(AuditVerb.ROLLOUT, model, **asked))
        known = await _read(pool, model)
    return known


def _chosen(known: ModelHistory, number: int | None) -> int:
    """The version that is meant: the one named, or tried, or the newest; it must have been registered."""
    numbers = [row.version for row in known.versions]
    version = number or known.rollout.candidate or numbers[-1]
    if version not in numbers:
        raise OperatorError(
            f"{known.rollout.model} has no version {version}; there is {', '.join(map(str, numbers))}: `infaas history "
            f"{known.rollout.model}`"
        )
    return version


async def _warn_of_accuracy(pool: Pool, known: ModelHistory, version: int) -> None:
    best = {row.version: await _best_accuracy(pool, row.name) for row in known.versions}
    before, after = best[known.rollout.serving], best[version]
    if not after:
        raise OperatorError(
            f"version {version} of {known.rollout.model} has no variant that is ready: `infaas variants`"
        )
    if after < before:
        err.print(
            f"[yellow]warning:[/] version {version} reaches an accuracy of {after:.4f}, version "
            f"{known.rollout.serving} one of {before:.4f}: who asks for more than the former "
            "is served by other models, or refused",
            highlight=False,
        )


async def _best_accuracy(pool: Pool, architecture: str) -> float:
    profiles = await list_profiles(pool, architecture=architecture, state=VariantState.READY)
    return max((profile.accuracy for profile in profiles), default=0.0)


def _show_rollout(found: ModelHistory, *, as_json: bool) -> None:
    if as_json:
        return show_json(found.rollout)
    rows = [(row.version, row.name, state_of(row.version, found)) for row in found.versions]
    show(table(("version>", "architecture", "state"), rows))
    return _show_comparisons(found)


def _show_comparisons(found: ModelHistory) -> None:
    if not found.comparisons:
        return
    rows = [
        (
            c.version, c.against, c.compared, f"{c.agreed / c.compared:.2%}", c.failed, ms(c.compute_s / c.compared),
            ms(c.against_compute_s / c.compared),
        )
        for c in found.comparisons
    ]  # fmt: skip
    columns = ("version>", "against>", "copies>", "agree>", "failed>", "its batch>", "the other's>")
    show(table(columns, rows, title="Shadow"))


def _version_row(row: Architecture, state: str, event: VersionEvent | None) -> tuple[object, ...]:
    by, detail = (event.by or "-", event.detail or "-") if event is not None else ("-", "-")
    return row.version, date_time(row.created_at), by, state, row.source[:12], detail


def _parsed(text: str) -> tuple[str, int | None]:
    name, at, number = text.partition("@")
    if at and not (number.isascii() and number.isdigit() and 0 < len(number) < 10):
        raise InvalidRequest(f"{text!r} names no version: write MODEL@2")
    return name, int(number) if at else None


def _share(text: str) -> float:
    """A share as `5%` or `0.05`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidRequest(f"a share is from 0% to 100%, or from 0 to 1, not {text!r}")
    return share
