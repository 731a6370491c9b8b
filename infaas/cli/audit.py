"""`infaas audit`: the log of administrative actions."""

from typing import Annotated

import msgspec
import typer

from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.control import call
from infaas.cli.moments import past_moment
from infaas.cli.output import date_time, show, show_json, table
from schemas.endpoints.audit import ACTS, ActsRequest
from schemas.rows.audit import AuditRow, AuditVerb


def audit(
    actor: Annotated[str | None, typer.Option("--by", help="Only actions of this person or key.")] = None,
    verb: Annotated[AuditVerb | None, typer.Option("--what", help="Only this kind of action.")] = None,
    subject: Annotated[str | None, typer.Option("--on", help="Only actions on this model, key, job ...")] = None,
    since: Annotated[str | None, typer.Option(help="Only later actions: 2h ago, or 2026-01-31T12:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Only earlier actions.")] = None,
    latest: Annotated[int, typer.Option("--latest", "-n", min=1, max=10_000, help="How many.")] = 50,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List administrative actions with actor, origin, time, subject and outcome, the latest last."""
    asked = ActsRequest(
        actor=actor, verb=verb, subject=subject, since=past_moment(since), until=past_moment(until), latest=latest
    )
    rows = call(home, ACTS, asked)
    if as_json:
        return show_json(rows)
    columns = ("at", "actor", "origin", "action", "subject", "details", "outcome")
    return show(table(columns, [_row(row) for row in rows], spare=("details", "origin")))


def _row(row: AuditRow) -> tuple[object, ...]:
    asked = ", ".join(f"{name} {_text(value)}" for name, value in row.detail.items() if value not in (None, "", False))
    outcome = f"{row.outcome}: {row.error}" if row.error else row.outcome
    return date_time(row.at), row.actor, row.origin, row.verb, row.subject or "everything", asked, outcome


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
