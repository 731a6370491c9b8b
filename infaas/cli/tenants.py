"""`infaas tenants`: tenants with Kafka topics of their own, to which no one else may write."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from admin import tenants
from admin.api import Empty
from admin.tenants import NamedTenant
from infaas.cli.admin_client import call, gateway_url, local_context
from infaas.cli.connect import DEFAULT_HOME, Home, with_database
from infaas.cli.options import RequestOptions, prints, with_options
from infaas.cli.output import CommandGroup, ProgressBar, day_time, err, show, table
from schemas.errors import OperatorError
from schemas.rows.tenants import Tenant

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)
_PASSWORD_BYTES = 24


@app.callback()
def tenants_group() -> None:
    """Manage tenants that send queries through Kafka topics of their own."""


@app.command()
@with_options
def create(
    options: RequestOptions[tenants.TenantRequest],
    scram: Annotated[
        bool, typer.Option("--scram", help="Create a SCRAM-SHA-512 password for the user, shown once.")
    ] = False,
    password_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the user's SCRAM-SHA-512 password.")
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Create a tenant's topics. Prints the ACLs they need, or sets them with --kafka-user. Can be repeated."""
    request = options.request(password=_password(scram, password_file))
    name, kafka_user = request.tenant, request.kafka_user
    if (scram or password_file) and not kafka_user:
        raise OperatorError("a password needs a user: add --kafka-user USER")
    if scram and password_file:
        raise OperatorError("give only one of --scram and --password-file")
    doors = call(home, tenants.create, request)
    online = doors.asks_in[0]
    err.print(f"tenant {name} sends to {online} and {doors.asks_in[1]}, reads results from {doors.answered_in},")
    err.print(f"and may create topics and groups whose names begin with {doors.prefix}")
    if not kafka_user:
        err.print("Until these commands are run for its user, other users can write there:")
        for command in doors.acls:
            typer.echo(command)
    elif scram:
        err.print(f"The password of {kafka_user}, shown only once:")
        typer.echo(request.password or "")


@app.command()
@with_options
def key(
    options: RequestOptions[NamedTenant],
    renew: Annotated[bool, typer.Option("--renew", help="Create another key, which replaces the present one.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Print the key with which a tenant signs its queries. Needs the selectors' secret, INFAAS_SIGNING_SECRET_FILE."""
    named = options.request()
    present = call(home, tenants.show, named).tenant.key_number if renew else None
    request = tenants.SigningKeyRequest(tenant=named.tenant, replaces=present)
    typer.echo(call(home, tenants.signing_key, request).key)


def _list_all(_request: Empty, found: list[Tenant]) -> Table:
    rows = [(t.name, t.kafka_user or "-", t.partitions, _made(t), "removing" if t.removing else "") for t in found]
    return table(("tenant", "user", "partitions>", "made", "state"), rows, optional_columns=("made",))


app.command("list")(prints(tenants.list_all, _list_all))


def _show_one(_request: NamedTenant, doors: tenants.TenantEndpoints) -> None:
    asks = " and ".join(doors.asks_in)
    show(table(("use", "topics"), [("queries", asks), ("results", doors.answered_in), ("own prefix", doors.prefix)]))
    for command in doors.acls:
        typer.echo(command)


app.command("show")(prints(tenants.show, _show_one))


@app.command()
@with_options
def remove(options: RequestOptions[tenants.TenantRemoval], home: Home = DEFAULT_HOME) -> None:
    """Remove a tenant: answer its pending queries, then delete its topics, ACLs and password."""
    request = options.request()
    with ProgressBar() as bar:
        if gateway_url():
            bar.step(0, 1, f"{request.tenant}: the gateway removes it")
            call(home, tenants.remove, request)
            bar.step(1, 1, f"{request.tenant}: removed")
        else:
            with_database(home, lambda pool: tenants.remove_with_progress(local_context(home, pool), request, bar))
    err.print(f"tenant {request.tenant} was removed")


def _password(scram: bool, file: Path | None) -> str | None:
    if file is not None:
        return file.read_text().strip() or None
    return secrets.token_urlsafe(_PASSWORD_BYTES) if scram else None


def _made(tenant: Tenant) -> str:
    return "-" if tenant.created_at is None else day_time(tenant.created_at)
