"""`infaas history`, `rollout` and `rollback`: the versions of a model, and their share of its queries."""

from typing import Annotated

import typer

from admin import versions
from admin.versions import ModelHistory, RolloutChanged
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import date_time, err, ms, show, show_json, table
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Architecture
from schemas.versions import VersionEvent, VersionEventKind

_VersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL[@VERSION]", help="A model and a version; default: the version under trial, or the newest."
    ),
]


def _history(_request: versions.HistoryRequest, found: ModelHistory) -> None:
    registered = {event.version: event for event in found.events if event.kind is VersionEventKind.REGISTERED}
    rows = [_version_row(row, state_of(row.version, found), registered.get(row.version)) for row in found.versions]
    show(table(("version>", "registered", "by", "state", "file", "changes"), rows))
    later = [event for event in found.events if event.kind is not VersionEventKind.REGISTERED]
    if later:
        lines = [(date_time(e.at), e.version, e.kind.value, e.by, e.detail) for e in later]
        show(table(("at", "version>", "event", "by", "details"), lines, title="Rollouts"))
    _show_comparisons(found)


history = prints(versions.history, _history)


def rollout(
    model: _VersionArgument,
    share: Annotated[
        str | None, typer.Option("--canary", "--share", metavar="5%", help="Share of queries that it answers.")
    ] = None,
    copies: Annotated[
        str | None, typer.Option("--shadow", metavar="10%", help="Share of queries copied to it.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Make this version serve.")] = False,
    back: Annotated[bool, typer.Option("--rollback", help="Same as `infaas rollback`.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Try a version of a model on a share of its queries, or make it serve; without an option, show the rollout."""
    name, version = _parsed(model)
    part, copied = (None if text is None else _share(text) for text in (share, copies))
    if back:
        return rollback(model=name, home=home, as_json=as_json)
    if part is None and copied is None and not finish:
        return _show_rollout(call(home, versions.history, versions.HistoryRequest(model=name)), as_json=as_json)
    asked = versions.RolloutRequest(model=name, version=version, share=part, shadow=copied, finish=finish)
    return _show_changed(call(home, versions.rollout, asked), as_json=as_json)


@with_options
def rollback(
    options: RequestOptions[versions.RollbackRequest], home: Home = DEFAULT_HOME, as_json: Json = False
) -> None:
    """Stop trying the version under trial. If there is none, let the previous version serve again."""
    _show_changed(call(home, versions.rollback, options.request()), as_json=as_json)


def state_of(version: int, known: ModelHistory) -> str:
    """Return the state of a version in words."""
    rollout = known.rollout
    if version == rollout.serving:
        return "serving"
    if version == rollout.candidate:
        parts = [(rollout.share, "canary"), (rollout.shadow, "shadow")]
        return ", ".join(f"{what} {100 * share:.4g} %" for share, what in parts if share) or "held"
    tried = any(e.version == version and e.kind is not VersionEventKind.REGISTERED for e in known.events)
    return "retired" if tried or version < rollout.serving else "held"


def _show_changed(changed: RolloutChanged, *, as_json: bool) -> None:
    for warning in changed.warnings:
        err.print(f"[yellow]warning:[/] {warning}", highlight=False)
    return _show_rollout(changed.history, as_json=as_json)


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
    return row.version, date_time(row.created_at), by, state, row.source[:12] or "-", detail


def _parsed(text: str) -> tuple[str, int | None]:
    name, at, number = text.partition("@")
    if at and not (number.isascii() and number.isdigit() and 0 < len(number) < 10):
        raise InvalidRequest(f"{text!r} is not a version: write MODEL@2")
    return name, int(number) if at else None


def _share(text: str) -> float:
    """Parse a share such as `5%` or `0.05`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidRequest(f"a share must be 0% to 100%, or 0 to 1, not {text!r}")
    return share
