"""`infaas keys`: create, list, limit and revoke API keys of the gateway."""

import math
import os
import re
import time
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.control import call
from infaas.cli.moments import parse_moment
from infaas.cli.output import CommandGroup, date_time, err, show, show_json, table
from schemas.endpoints.keys import (
    CREATE_KEY,
    LIMIT_KEY,
    LIST_KEYS,
    REVOKE_KEY,
    KeyInfo,
    KeyQuotaRequest,
    KeyRequest,
    KeysRequest,
    RevokeRequest,
)
from schemas.errors import InvalidRequest, NotFound, OperatorError
from schemas.principal import Role
from security.api_keys import ID_BYTES

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)

KeyIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of keys, not the secrets.")]
TenantFlag = Annotated[str | None, typer.Option(help="Tenant of its queries; optional for admins only.")]
RoleFlag = Annotated[
    Role,
    typer.Option(help="query: send queries. publish: also change its tenant's objects. admin: all, for all tenants."),
]
TaskFlag = Annotated[list[str] | None, typer.Option("--task", help="Task that it may query; repeatable. Default: all.")]
PerSecondFlag = Annotated[float | None, typer.Option(min=0.001, help="Maximum queries a second at each gateway.")]
ConcurrentFlag = Annotated[int | None, typer.Option(min=1, help="Maximum concurrent queries at each gateway.")]
ExpiresFlag = Annotated[str | None, typer.Option(help="Expiry: 12h or 30d from now, or a date. Default: never.")]
CertificateFlag = Annotated[
    str | None,
    typer.Option(help="Accept a client certificate with this name (a URI, DNS or common name) instead of a key."),
]
NoteFlag = Annotated[str, typer.Option(help="Purpose of the key.")]
_ID: Final = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}", re.ASCII)


@app.callback()
def keys_group() -> None:
    """Manage API keys of the gateway, for systems with authentication (`infaas up --auth`)."""


@app.command()
def create(
    tenant: TenantFlag = None,
    certificate: CertificateFlag = None,
    role: RoleFlag = Role.QUERY,
    tasks: TaskFlag = None,
    per_second: PerSecondFlag = None,
    concurrent: ConcurrentFlag = None,
    expires: ExpiresFlag = None,
    note: NoteFlag = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Create a key and print it. It cannot be shown again, because only its hash is stored."""
    request = KeyRequest(
        id=os.urandom(ID_BYTES).hex(),
        certificate=certificate,
        tenant=tenant,
        role=role,
        tasks=tasks or None,
        per_second=_rate(per_second),
        concurrent=concurrent,
        expires_at=_expiry(expires, time.time()),
        note=note,
    )
    made = call(home, CREATE_KEY, request)
    if as_json:
        return show_json(made)
    if made.key is None:
        typer.echo(made.id)
        return err.print(f"clients with the certificate {made.certificate} authenticate as {made.id}", highlight=False)
    typer.echo(made.key)
    err.print(f"key {made.id}: kept as a hash, so it is not shown again. Send it as `Authorization: Bearer <key>`,")
    err.print("or set INFAAS_KEY for the command line and the client library.")
    return None


@app.command("list")
def list_all(
    tenant: Annotated[str | None, typer.Option(help="Keys of this tenant.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List keys, including revoked ones, without their secrets."""
    found = call(home, LIST_KEYS, KeysRequest(tenant=tenant))
    if as_json:
        return show_json(found)
    columns = ("id", "certificate", "tenant", "role", "tasks", "quota", "made", "by", "state", "note")
    return show(table(columns, [_row(key, datetime.now(UTC)) for key in found], spare=("by", "made", "note")))


@app.command()
def quota(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a key, not the secret.")],
    per_second: PerSecondFlag = None,
    concurrent: ConcurrentFlag = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Set the quota of a key. It takes effect at all gateways within a second; omitted limits are removed."""
    request = KeyQuotaRequest(id=_id(key_id), per_second=_rate(per_second), concurrent=concurrent)
    key = call(home, LIMIT_KEY, request)
    show_json(key) if as_json else err.print(f"key {key.id}: {_quota(key)}", highlight=False)


@app.command()
def revoke(ids: KeyIds, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Revoke keys; gateways refuse them within a second. Exit code 2 if one was revoked before or does not exist."""
    revoked, left, warnings = list[str](), list[str](), list[str]()
    for key_id in dict.fromkeys(ids):
        try:
            ended = call(home, REVOKE_KEY, RevokeRequest(id=_id(key_id)))
        except (NotFound, InvalidRequest):
            left.append(_shown_id(key_id))
        else:
            revoked.append(ended.id)
            warnings = [ended.warning]
    if as_json:
        show_json({"revoked": revoked, "not_revoked": left})
    else:
        err.print(f"{len(revoked)} key(s) revoked")
    for warning in filter(None, warnings):
        err.print(f"[yellow]{warning}[/]")
    if left:
        raise InvalidRequest(f"already revoked or unknown: {', '.join(sorted(left))}")


def _id(text: str) -> str:
    """Return a valid key id, so that a whole key given by mistake is not sent anywhere."""
    if _ID.fullmatch(text) is None:
        raise InvalidRequest(f"{_shown_id(text)} is not a key id, which has {2 * ID_BYTES} hexadecimal digits")
    return text


def _rate(per_second: float | None) -> float | None:
    if per_second is not None and not math.isfinite(per_second):
        raise InvalidRequest("--per-second must be a finite number; leave it out for no limit")
    return per_second


def _expiry(expires: str | None, now_s: float) -> datetime | None:
    if expires is None:
        return None
    at = parse_moment(expires, now_s, ahead=True)
    if at <= now_s:
        raise OperatorError(f"--expires {expires} has passed")
    return datetime.fromtimestamp(at, UTC)


def _shown_id(text: str) -> str:
    """Return an id as given, but not a whole key: output may be stored by others."""
    return text if len(text) <= 2 * ID_BYTES else f"a text of {len(text)} characters (an id has {2 * ID_BYTES})"


def _row(key: KeyInfo, now: datetime) -> tuple[object, ...]:
    made = date_time(key.created_at)
    tasks = "all" if key.tasks is None else ", ".join(key.tasks)
    whose = key.id, key.certificate or "-", key.tenant or "-", ", ".join(key.roles), tasks, _quota(key)
    return *whose, made, key.created_by, _state(key, now), key.note


def _quota(key: KeyInfo) -> str:
    rate = None if key.per_second is None else f"{key.per_second:g}/s"
    waiting = None if key.concurrent is None else f"{key.concurrent} at once"
    return ", ".join(filter(None, (rate, waiting))) or "-"


def _state(key: KeyInfo, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {date_time(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    return f"{'expired' if key.expires_at <= now else 'valid until'} {date_time(key.expires_at)}"
