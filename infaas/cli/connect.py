"""Address of the system that a command works on: from the environment, else from the state file of the home.

Each command looks up only the parts it needs, so that `infaas lag` works if only Postgres can be reached.
"""

import asyncio
import logging
import os
import pwd
import socket
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from broker.kafka.settings import ENV as KAFKA_ENV
from broker.kafka.settings import KafkaSettings
from infaas.up.state import SystemState, read_state
from process.gateway_access import CA_ENV, CERTIFICATE_ENV, CLIENT_KEY_ENV, KEY_ENV, is_url, without_user
from schemas.defaults import HOME
from schemas.errors import OperatorError
from schemas.rows.audit import AuditAct, AuditVerb
from schemas.topics import NAMESPACE, NAMESPACE_ENV
from store.pool import Pool, open_pool
from store.settings import ENV as POSTGRES_ENV

log = logging.getLogger(__name__)

T = TypeVar("T")
GATEWAY_ENV: Final = "INFAAS_GATEWAY"
"""Environment variable with the URL of the gateway for queries only."""
URL_ENV: Final = "INFAAS_URL"
"""Environment variable with the URL of the gateway for all commands, from any machine."""
_OF_GATEWAYS: Final = (CA_ENV, CERTIFICATE_ENV, CLIENT_KEY_ENV, KEY_ENV)
"""Environment variables of the connection to a gateway, other than its address."""

_home_said: Final = ContextVar("home_said", default=False)
"""True if `--home` was typed in this command; it then takes precedence over the environment."""


def _note_home(ctx: typer.Context, home: Path) -> Path:
    _home_said.set(was_typed(ctx, "home"))
    return home


def was_typed(ctx: typer.Context, parameter: str) -> bool:
    """Return true if a parameter was typed on the command line, not set by the environment or a default."""
    source = ctx.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


Home = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="INFAAS_HOME",
        callback=_note_home,
        help=f"Data folder of the system; takes precedence over {URL_ENV}.",
    ),
]
DEFAULT_HOME: Final = HOME
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def find_kafka(home: Path) -> KafkaSettings:
    """Return the settings to reach Kafka.

    Raises:
        OperatorError: the environment does not name Kafka, and no system runs in `home`.
    """
    if os.environ.get(KAFKA_ENV):
        return KafkaSettings()
    state = running_state(home, KAFKA_ENV)
    if state.namespace != NAMESPACE:
        raise OperatorError(
            f"the system in {home.absolute()} runs in the namespace {state.namespace}, this command in {NAMESPACE}: "
            f"set {NAMESPACE_ENV}={state.namespace}"
        )
    login: dict[str, Any] = dict(state.kafka_login)
    return KafkaSettings(bootstrap=state.kafka, fetch_max_wait_ms=state.fetch_max_wait_ms, **login)


def find_database(home: Path) -> str:
    """Return the DSN of Postgres.

    Raises:
        OperatorError: the environment does not name Postgres, and no system runs in `home`.
    """
    return os.environ.get(POSTGRES_ENV) or running_state(home, POSTGRES_ENV).postgres


def with_database(home: Path, work: Callable[[Pool], Awaitable[T]]) -> T:
    """Run `work` with a connection pool of Postgres and return its result.

    Raises:
        OperatorError: the environment does not name Postgres, and no system runs in `home`.
        StoreUnavailable: Postgres cannot be reached.
    """

    async def connected() -> T:
        async with open_pool(find_database(home), max_size=2) as pool:
            return await work(pool)

    return asyncio.run(connected())


def find_gateway(home: Path) -> str:
    """Return the URL of the gateway.

    Raises:
        OperatorError: the environment does not name a gateway, and no system runs in `home`.
    """
    return named_gateway() or running_state(home, GATEWAY_ENV).gateway


def named_gateway() -> str:
    """Return the URL of the gateway that the environment names for queries; empty if none."""
    url = gateway_url() or os.environ.get(GATEWAY_ENV, "")
    return url.rstrip("/").removesuffix("/v1").removesuffix("/v2")


def gateway_url() -> str:
    """Return the URL in `INFAAS_URL`; empty if it is unset or `--home` was typed, and the command works locally.

    Raises:
        OperatorError: the value is not a URL.
    """
    if _home_said.get():
        return ""
    url = os.environ.get(URL_ENV, "").rstrip("/").removesuffix("/v1").removesuffix("/v2")
    if url and not is_url(url):
        raise OperatorError(f"{URL_ENV} is {without_user(url)!r}: write the URL of a gateway, https://HOST:PORT")
    return url


def asked_by() -> str:
    """Return `user@host` of this command. The user is that of the process, not of the environment."""
    number = os.geteuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:  # common in containers
        user = f"uid-{number}"
    return f"{user}@{socket.gethostname()}"


def asked_from() -> str:
    """Return the origin of this command for the audit log."""
    remote = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    return f"command line, by SSH from {remote}" if remote else "command line"


def act_here(verb: AuditVerb, subject: str = "", **detail: Any) -> AuditAct:
    """Return the audit entry of an action of this command line."""
    return AuditAct(actor=asked_by(), origin=asked_from(), verb=verb, subject=subject, detail=detail)


def running_state(home: Path, variable: str | None = None) -> SystemState:
    """Return the state of the system that runs in `home`.

    Raises:
        OperatorError: none runs; the message says how to start one, or to set `variable` to another address.
    """
    state, url = read_state(home), gateway_url()
    if state is not None:
        if url and url != state.gateway:
            _warn_of_home(home)
        return state
    if url:
        instead = f" (or set {variable})" if variable else ""
        raise OperatorError(
            f"this command works only on the system's machine, not over {URL_ENV}, and no system runs in "
            f"{home.absolute()}: choose another --home{instead}"
        )
    instead = f", or set {variable}" if variable else ""
    raise OperatorError(
        f"no system runs in {home.absolute()}: start one with `infaas up`, choose another "
        f"--home{instead}{_said_without_address()}"
    )


def _said_without_address() -> str:
    """Return a hint on connection settings in the environment that lack the address of their server."""
    login = tuple(f"{KAFKA_ENV}_{kind}" for kind in ("SECURITY_", "SASL_", "TLS_"))
    of_kafka = [name for name in sorted(os.environ) if name.startswith(login)]
    of_gateways = [name for name in _OF_GATEWAYS if os.environ.get(name)]
    found = ""
    for address, names in ((KAFKA_ENV, of_kafka), (GATEWAY_ENV, of_gateways)):
        if names and not os.environ.get(address):
            found += (
                f"; {', '.join(names)} {'is' if len(names) == 1 else 'are'} set, but {address}, the address, is not"
            )
    return found


@cache
def _warn_of_home(home: Path) -> None:
    """Warn once that the command works on the system of the home, not on the gateway in `INFAAS_URL`."""
    log.warning("ignoring %s: the command uses the system that runs in %s", URL_ENV, home.absolute())
