"""`infaas keys`: who may ask the gateway: API keys, made, listed, revoked."""

import math
import os
import time
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, Json, act_here, asked_by, with_database
from infaas.cli.moments import parse_moment
from infaas.cli.output import CommandGroup, date_time, err, show, show_json, table
from schemas.errors import InvalidRequest, OperatorError
from schemas.names import check_name
from schemas.principal import Role
from schemas.rows.api_keys import ApiKeyRow
from schemas.rows.audit import AuditVerb
from security.api_keys import ID_BYTES, SECRET_BYTES, make_key
from store.api_keys import list_keys, put_key, revoke_keys
from store.audit import audited_transaction
from store.pool import Pool

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)

KeyIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of keys; no secrets.")]
TenantFlag = Annotated[str | None, typer.Option(help="Whom its queries are counted for. Only admins need none.")]
RoleFlag = Annotated[
    Role,
    typer.Option(help="query: ask. publish: load and unload, too. admin: everything, of all tenants."),
]
TaskFlag = Annotated[list[str] | None, typer.Option("--task", help="A task that it may ask; repeatable. Default: all.")]
PerSecondFlag = Annotated[float | None, typer.Option(min=0.001, help="Most queries a second, of each gateway.")]
ConcurrentFlag = Annotated[int | None, typer.Option(min=1, help="Most queries that wait at once, of each gateway.")]
ExpiresFlag = Annotated[str | None, typer.Option(help="When it ends: 12h or 30d from now, or a date. Default: never.")]
NoteFlag = Annotated[str, typer.Option(help="What it is for.")]
_MAX_NOTE: Final = 200


@app.callback()
def keys_group() -> None:
    """Say who may ask the gateway, where it asks who asks (`infaas up --auth`)."""


@app.command()
def create(
    tenant: TenantFlag = None,
    role: RoleFlag = Role.QUERY,
    tasks: TaskFlag = None,
    per_second: PerSecondFlag = None,
    concurrent: ConcurrentFlag = None,
    expires: ExpiresFlag = None,
    note: NoteFlag = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Make a key and print it: now or never, for only a hash of it is kept."""
    key = make_key(os.urandom(ID_BYTES + SECRET_BYTES))
    row = ApiKeyRow(
        id=key.id,
        secret_hash=key.hash(),
        tenant=_tenant(tenant, role),
        roles=[role],
        tasks=[check_name("task", name) for name in tasks] if tasks else None,
        per_second=_rate(per_second),
        concurrent=concurrent,
        note=_note(note),
        created_by=asked_by(),
        expires_at=_expiry(expires, time.time()),
    )
    said = {name: value for name, value in _public(row).items() if value is not None and name != "created_by"}

    async def write(pool: Pool) -> None:
        async with audited_transaction(pool, act_here(AuditVerb.CREATE_KEY, key.id, **said)) as session:
            await put_key(session, row)

    with_database(home, write)
    if as_json:
        return show_json({"id": key.id, "key": str(key), **_public(row)})
    typer.echo(str(key))
    err.print(f"key {key.id}: kept as a hash, so it is not shown again. Send it as `Authorization: Bearer <key>`,")
    err.print("or set INFAAS_KEY for the command line and the client library.")
    return None


@app.command("list")
def list_all(
    tenant: Annotated[str | None, typer.Option(help="Keys of this tenant.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List keys, revoked ones, too, without their secrets."""
    rows = with_database(home, lambda pool: list_keys(pool, tenant=tenant))
    if as_json:
        return show_json([{"id": row.id, **_public(row)} for row in rows])
    columns = ("id", "tenant", "role", "tasks", "quota", "made", "by", "state", "note")
    return show(table(columns, [_row(row, datetime.now(UTC)) for row in rows], spare=("by", "made", "note")))


@app.command()
def revoke(ids: KeyIds, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """End keys: within a second no gateway lets them in. Exit code 2 if one has ended already, or there is none."""

    async def write(pool: Pool) -> list[str]:
        subject = ", ".join(map(_shown_id, ids))
        async with audited_transaction(pool, act_here(AuditVerb.REVOKE_KEY, subject)) as session:
            revoked = await revoke_keys(session, ids)
            if not revoked:  # it fails in here, so that it is recorded as failed
                _show_revoked(ids, revoked, as_json=as_json)
        return revoked

    _show_revoked(ids, with_database(home, write), as_json=as_json)


def _show_revoked(ids: list[str], revoked: list[str], *, as_json: bool) -> None:
    left = sorted(set(ids) - set(revoked))
    if as_json:
        show_json({"revoked": revoked, "not_revoked": left})
    else:
        err.print(f"{len(revoked)} key(s) revoked")
    if left:
        raise InvalidRequest(f"revoked already, or not there: {', '.join(map(_shown_id, left))}")


def _tenant(tenant: str | None, role: Role) -> str | None:
    if tenant is not None:
        return check_name("tenant", tenant)
    if role is not Role.ADMIN:
        raise InvalidRequest(f"a key with the role {role} is of a tenant: say which by --tenant")
    return None


def _rate(per_second: float | None) -> float | None:
    if per_second is not None and not math.isfinite(per_second):
        raise InvalidRequest("--per-second is a number; leave it out for no limit")
    return per_second


def _note(note: str) -> str:
    if len(note) > _MAX_NOTE or not note.isprintable():
        raise InvalidRequest(f"a note is one line of at most {_MAX_NOTE} characters")
    return note


def _expiry(expires: str | None, now_s: float) -> datetime | None:
    if expires is None:
        return None
    at = parse_moment(expires, now_s, ahead=True)
    if at <= now_s:
        raise OperatorError(f"--expires {expires} has passed")
    return datetime.fromtimestamp(at, UTC)


def _shown_id(text: str) -> str:
    """An id as it was given, unless it is a whole key: what is printed may be kept by others."""
    return text if len(text) <= 2 * ID_BYTES else f"a text of {len(text)} letters (an id has {2 * ID_BYTES})"


def _public(row: ApiKeyRow) -> dict[str, object]:
    names = ("tenant", "roles", "tasks", "per_second", "concurrent", "note", "created_by")
    times = ("created_at", "expires_at", "revoked_at")
    return {name: getattr(row, name) for name in (*names, *times)}


def _row(row: ApiKeyRow, now: datetime) -> tuple[object, ...]:
    made = date_time(row.created_at)
    tasks = "all" if row.tasks is None else ", ".join(row.tasks)
    whose = row.id, row.tenant or "-", ", ".join(row.roles), tasks, _quota(row)
    return *whose, made, row.created_by, _state(row, now), row.note


def _quota(row: ApiKeyRow) -> str:
    rate = None if row.per_second is None else f"{row.per_second:g}/s"
    waiting = None if row.concurrent is None else f"{row.concurrent} at once"
    return ", ".join(filter(None, (rate, waiting))) or "-"


def _state(row: ApiKeyRow, now: datetime) -> str:
    if row.revoked_at is not None:
        return f"revoked {date_time(row.revoked_at)}"
    if row.expires_at is None:
        return "valid"
    return f"{'expired' if row.expires_at <= now else 'valid until'} {date_time(row.expires_at)}"
