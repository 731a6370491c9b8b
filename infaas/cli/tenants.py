"""`infaas tenants`: tenants with Kafka topics of their own, to which no one else may write."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, Json, with_database
from infaas.cli.control import call, gateway_url, local_control
from infaas.cli.output import CommandGroup, day_time, err, show, show_json, table
from infaas.cli.progress_bar import ProgressBar
from schemas.defaults import PARTITIONS
from schemas.endpoints.endpoint import Empty
from schemas.endpoints.tenants import (
    CREATE_TENANT,
    LIST_TENANTS,
    MOST_PARTITIONS,
    REMOVE_TENANT,
    SHOW_TENANT,
    SIGNING_KEY,
    NamedTenant,
    SigningKeyRequest,
    TenantRemoval,
    TenantRequest,
)
from schemas.errors import OperatorError
from schemas.rows.tenants import Tenant
from store.pool import Pool

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)
_PASSWORD_BYTES = 24

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Name of a tenant.")]


@app.callback()
def tenants() -> None:
    """Manage tenants that send queries through Kafka topics of their own."""


@app.command()
def create(
    name: TenantArgument,
    kafka_user: Annotated[
        str,
        typer.Option(metavar="USER", help="Kafka user with exclusive write access to its topics; sets ACLs."),
    ] = "",
    scram: Annotated[
        bool, typer.Option("--scram", help="Create a SCRAM-SHA-512 password for the user, shown once.")
    ] = False,
    password_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the user's SCRAM-SHA-512 password.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, max=MOST_PARTITIONS, help="Partitions of its topics.")] = PARTITIONS,
    home: Home = DEFAULT_HOME,
) -> None:
    """Create a tenant's topics. Prints the ACLs they need, or sets them with --kafka-user. Can be repeated."""
    if (scram or password_file) and not kafka_user:
        raise OperatorError("a password needs a user: add --kafka-user USER")
    if scram and password_file:
        raise OperatorError("give only one of --scram and --password-file")
    password = _password(scram, password_file)
    request = TenantRequest(tenant=name, kafka_user=kafka_user, partitions=partitions, password=password)
    doors = call(home, CREATE_TENANT, request)
    online = doors.asks_in[0]
    err.print(f"tenant {name} sends to {online} and {doors.asks_in[1]}, reads results from {doors.answered_in},")
    err.print(f"and may create topics and groups whose names begin with {doors.prefix}")
    if not kafka_user:
        err.print("Until these commands are run for its user, other users can write there:")
        for command in doors.acls:
            typer.echo(command)
    elif scram:
        err.print(f"The password of {kafka_user}, shown only once:")
        typer.echo(password or "")


@app.command()
def key(
    name: TenantArgument,
    renew: Annotated[bool, typer.Option("--renew", help="Create another key, which replaces the present one.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Print the key with which a tenant signs its queries. Needs the selectors' secret, INFAAS_SIGNING_SECRET_FILE."""
    present = call(home, SHOW_TENANT, NamedTenant(tenant=name)).tenant.key_number if renew else None
    typer.echo(call(home, SIGNING_KEY, SigningKeyRequest(tenant=name, replaces=present)).key)


@app.command("list")
def list_all(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """List tenants that have topics of their own."""
    found = call(home, LIST_TENANTS, Empty())
    if as_json:
        return show_json(found)
    rows = [(t.name, t.kafka_user or "-", t.partitions, _made(t), "removing" if t.removing else "") for t in found]
    return show(table(("tenant", "user", "partitions>", "made", "state"), rows, spare=("made",)))


@app.command("show")
def show_one(name: TenantArgument, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Show a tenant's topics, and the commands that permit its user to use them."""
    doors = call(home, SHOW_TENANT, NamedTenant(tenant=name))
    if as_json:
        return show_json(doors)
    asks = " and ".join(doors.asks_in)
    show(table(("use", "topics"), [("queries", asks), ("results", doors.answered_in), ("own prefix", doors.prefix)]))
    for command in doors.acls:
        typer.echo(command)
    return None


@app.command()
def remove(
    name: TenantArgument,
    drain_timeout: Annotated[
        float, typer.Option(min=1, max=300, help="Longest wait, in seconds, until its queries are answered.")
    ] = TenantRemoval(tenant="").drain_timeout_s,
    results_grace: Annotated[
        float, typer.Option(min=0, max=300, help="Seconds to keep its results readable before deletion.")
    ] = TenantRemoval(tenant="").results_grace_s,
    home: Home = DEFAULT_HOME,
) -> None:
    """Remove a tenant: answer its pending queries, then delete its topics, ACLs and password."""
    request = TenantRemoval(tenant=name, drain_timeout_s=drain_timeout, results_grace_s=results_grace)
    with ProgressBar() as bar:
        if gateway_url():
            bar.step(0, 1, f"{name}: the gateway removes it")
            call(home, REMOVE_TENANT, request)
            bar.step(1, 1, f"{name}: removed")
        else:
            with_database(home, lambda pool: _removed(home, pool, request, bar))
    err.print(f"tenant {name} was removed")


async def _removed(home: Path, pool: Pool, request: TenantRemoval, bar: ProgressBar) -> None:
    from admin.tenants import remove as remove_tenant  # not needed with a gateway

    await remove_tenant(local_control(home, pool), request, bar)


def _password(scram: bool, file: Path | None) -> str | None:
    if file is not None:
        return file.read_text().strip() or None
    return secrets.token_urlsafe(_PASSWORD_BYTES) if scram else None


def _made(tenant: Tenant) -> str:
    return "-" if tenant.created_at is None else day_time(tenant.created_at)
