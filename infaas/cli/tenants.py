"""`infaas tenants`: who asks over Kafka by topics of its own, which nobody else may write."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from broker.acls import acl_commands, tenant_acls
from infaas.cli.connect import DEFAULT_HOME, Home, Json, act_here, find_kafka, with_database
from infaas.cli.output import CommandGroup, day_time, err, show, show_json, table
from infaas.cli.register import ProgressBar
from process.signing import SigningSettings
from registry.removal.unregister import RemovalRequest
from registry.tenants import create_tenant, principal_of, remove_tenant
from schemas.errors import OperatorError
from schemas.rows.audit import AuditVerb
from schemas.rows.tenants import Tenant
from schemas.topics import ingress_topic, offline_of, tenant_prefix, tenant_results_topic
from security.signature import tenant_key
from store.audit import audited, audited_transaction
from store.pool import Pool
from store.tenants import list_tenants, renew_key

app = typer.Typer(cls=CommandGroup, no_args_is_help=True)
_PASSWORD_BYTES = 24

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Name of a tenant.")]


@app.callback()
def tenants() -> None:
    """Look after tenants that ask over Kafka by topics of their own."""


@app.command()
def create(
    name: TenantArgument,
    kafka_user: Annotated[
        str, typer.Option(metavar="USER", help="Kafka's user that alone may write its topics: sets the ACLs.")
    ] = "",
    scram: Annotated[
        bool, typer.Option("--scram", help="Give the user a password of SCRAM-SHA-512, shown once.")
    ] = False,
    password_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with the password of SCRAM-SHA-512.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of its topics.")] = Tenant(name="").partitions,
    home: Home = DEFAULT_HOME,
) -> None:
    """Create a tenant's topics. Prints the ACLs that they need, or sets them for --kafka-user. May be run again."""
    if (scram or password_file) and not kafka_user:
        raise OperatorError("a password needs a user: add --kafka-user USER")
    if scram and password_file:
        raise OperatorError("a password is made or given: give one of --scram and --password-file")
    kafka, tenant = find_kafka(home), Tenant(name=name, partitions=partitions, kafka_user=kafka_user)
    password = _password(scram, password_file)

    act = act_here(AuditVerb.CREATE_TENANT, name, kafka_user=kafka_user, password=password is not None)

    async def made(pool: Pool) -> None:
        async with audited(pool, act):
            await create_tenant(pool, kafka, tenant, password)

    with_database(home, made)
    online = ingress_topic(name)
    err.print(f"tenant {name} asks in {online} and {offline_of(online)}, is answered in {tenant_results_topic(name)},")
    err.print(f"and may make topics and groups whose names begin with {tenant_prefix(name)}")
    if not kafka_user:
        err.print("Until this is run, with its user, nothing keeps others from writing there:")
        for command in acl_commands(tenant_acls(name), principal_of("USER"), kafka.bootstrap):
            typer.echo(command)
    elif scram:
        err.print(f"The password of {kafka_user}, shown this once:")
        typer.echo(password or "")


@app.command()
def key(
    name: TenantArgument,
    renew: Annotated[bool, typer.Option("--renew", help="Make another, which makes the one before void.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Print the key by which a tenant signs its queries. Needs the selectors' secret, INFAAS_SIGNING_SECRET_FILE."""
    secret = SigningSettings().read()
    if secret is None:
        raise OperatorError("set INFAAS_SIGNING_SECRET_FILE, or INFAAS_SIGNING_SECRET, to what the selectors have")
    act = act_here(AuditVerb.SHOW_SIGNING_KEY, name, renew=renew)

    async def numbered(pool: Pool) -> int:
        async with audited_transaction(pool, act) as session:
            number = await renew_key(session, name, renew=renew)
            if number is None:
                raise OperatorError(f"there is no tenant {name!r}: `infaas tenants create` makes one")
        return number

    typer.echo(tenant_key(secret, name, with_database(home, numbered)))


@app.command("list")
def list_all(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """List tenants with topics of their own."""
    found = with_database(home, list_tenants)
    if as_json:
        return show_json(found)
    rows = [(t.name, t.kafka_user or "-", t.partitions, _made(t), "removing" if t.removing else "") for t in found]
    return show(table(("tenant", "user", "partitions>", "made", "state"), rows, spare=("made",)))


@app.command()
def remove(
    name: TenantArgument,
    drain_timeout: Annotated[
        float, typer.Option(min=1, help="Longest wait, in seconds, for selectors to answer what it asked.")
    ] = RemovalRequest(name="").drain_timeout_s,
    results_grace: Annotated[
        float, typer.Option(min=0, help="Seconds for which its results can be read before they go.")
    ] = RemovalRequest(name="").results_grace_s,
    home: Home = DEFAULT_HOME,
) -> None:
    """Remove a tenant: what it asked is answered, then its topics, ACLs and password go."""
    kafka = find_kafka(home)

    async def removed(pool: Pool) -> None:
        async with audited(pool, act_here(AuditVerb.REMOVE_TENANT, name)):
            with ProgressBar() as bar:
                await remove_tenant(
                    pool, kafka, name, bar, drain_timeout_s=drain_timeout, results_grace_s=results_grace
                )

    with_database(home, removed)
    err.print(f"tenant {name} is gone")


def _password(scram: bool, file: Path | None) -> str | None:
    if file is not None:
        return file.read_text().strip() or None
    return secrets.token_urlsafe(_PASSWORD_BYTES) if scram else None


def _made(tenant: Tenant) -> str:
    return "-" if tenant.created_at is None else day_time(tenant.created_at)
