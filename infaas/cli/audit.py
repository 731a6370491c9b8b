"""`infaas audit`: the log of administrative actions."""

import msgspec
from rich.table import Table

from admin.audit import ActsRequest, list_all
from infaas.cli.options import prints
from infaas.cli.output import date_time, table
from schemas.rows.audit import AuditRow


def _audit(_request: ActsRequest, rows: list[AuditRow]) -> Table:
    columns = ("at", "actor", "origin", "action", "subject", "details", "outcome")
    return table(columns, [_row(row) for row in rows], optional_columns=("details", "origin"))


audit = prints(list_all, _audit)


def _row(row: AuditRow) -> tuple[object, ...]:
    asked = ", ".join(f"{name} {_text(value)}" for name, value in row.detail.items() if value not in (None, "", False))
    outcome = f"{row.outcome}: {row.error}" if row.error else row.outcome
    return date_time(row.at), row.actor, row.origin, row.verb, row.subject or "everything", asked, outcome


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
