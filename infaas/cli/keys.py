"""`infaas keys`: create, list, limit and revoke API keys of the gateway."""

import os
import re
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.table import Table

from admin import keys
from infaas.cli.admin_client import call
from infaas.cli.connect import DEFAULT_HOME, Home, Json
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import CommandGroup, date_time, err, show_json, table
from process.security.api_keys import ID_BYTES
from schemas.errors import InvalidRequest, NotFound

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)

KeyIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of keys, not the secrets.")]
_ID: Final = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}", re.ASCII)


@app.callback()
def keys_group() -> None:
    """Manage API keys of the gateway, for systems with authentication (`infaas up --auth`)."""


@app.command()
@with_options
def create(options: RequestOptions[keys.KeyRequest], home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Create a key and print it. It cannot be shown again, because only its hash is stored."""
    request = options.request(id=os.urandom(ID_BYTES).hex())
    made = call(home, keys.create, request)
    if as_json:
        return show_json(made)
    if made.key is None:
        typer.echo(made.id)
        return err.print(f"clients with the certificate {made.certificate} authenticate as {made.id}", highlight=False)
    typer.echo(made.key)
    err.print(f"key {made.id}: kept as a hash, so it is not shown again. Send it as `Authorization: Bearer <key>`,")
    err.print("or set INFAAS_KEY for the command line and the client library.")
    return None


def _list_all(_request: keys.KeysRequest, found: list[keys.KeyInfo]) -> Table:
    columns = ("id", "certificate", "tenant", "role", "tasks", "quota", "made", "by", "state", "note")
    return table(columns, [_row(key, datetime.now(UTC)) for key in found], optional_columns=("by", "made", "note"))


app.command("list")(prints(keys.list_all, _list_all))


@app.command()
@with_options
def quota(options: RequestOptions[keys.KeyQuotaRequest], home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Set the quota of a key. It takes effect at all gateways within a second; omitted limits are removed."""
    request = options.request()
    _check_id(request.id)
    key = call(home, keys.limit, request)
    show_json(key) if as_json else err.print(f"key {key.id}: {_quota(key)}", highlight=False)


@app.command()
def revoke(ids: KeyIds, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Revoke keys; gateways refuse them within a second. Exit code 2 if one was revoked before or does not exist."""
    revoked, left, warnings = list[str](), list[str](), list[str]()
    for key_id in dict.fromkeys(ids):
        try:
            _check_id(key_id)
            ended = call(home, keys.revoke, keys.RevokeRequest(id=key_id))
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


def _check_id(text: str) -> None:
    """Check the form of a key id, so that a whole key given by mistake is not sent anywhere."""
    if _ID.fullmatch(text) is None:
        raise InvalidRequest(f"{_shown_id(text)} is not a key id, which has {2 * ID_BYTES} hexadecimal digits")


def _shown_id(text: str) -> str:
    """Return an id as given, but not a whole key: output may be stored by others."""
    return text if len(text) <= 2 * ID_BYTES else f"a text of {len(text)} characters (an id has {2 * ID_BYTES})"


def _row(key: keys.KeyInfo, now: datetime) -> tuple[object, ...]:
    made = date_time(key.created_at)
    tasks = "all" if key.tasks is None else ", ".join(key.tasks)
    whose = key.id, key.certificate or "-", key.tenant or "-", ", ".join(key.roles), tasks, _quota(key)
    return *whose, made, key.created_by, _state(key, now), key.note


def _quota(key: keys.KeyInfo) -> str:
    rate = None if key.per_second is None else f"{key.per_second:g}/s"
    waiting = None if key.concurrent is None else f"{key.concurrent} at once"
    return ", ".join(filter(None, (rate, waiting))) or "-"


def _state(key: keys.KeyInfo, now: datetime) -> str:
    if key.revoked_at is not None:
        return f"revoked {date_time(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    return f"{'expired' if key.expires_at <= now else 'valid until'} {date_time(key.expires_at)}"
