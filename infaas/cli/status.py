"""`infaas status` and `infaas down`: state and stop of the system of a home."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import aiohttp
import msgspec
import typer
from rich.table import Table

from broker.kafka.servers.embedded import LIMITS
from infaas.cli.connect import DEFAULT_HOME, Home, Json, gateway_url, running_state
from infaas.cli.health import show_remote_status
from infaas.cli.output import err, facts, show, show_json, table
from infaas.up.state import KafkaKind, SystemState, read_state, stop_supervisor
from schemas import topics
from schemas.errors import OperatorError
from store.settings import without_password

_DOWN_S: Final = 90.0
_WAIT_S: Final = 120.0
_CHECK_INTERVAL_S: Final = 0.1
_PROBE_S: Final = 2.0


def down(home: Home = DEFAULT_HOME) -> None:
    """Stop the system of the home, and wait until it has stopped."""
    state = running_state(home)
    if not stop_supervisor(state.pid, _DOWN_S):
        raise OperatorError(f"process {state.pid} has not stopped within {_DOWN_S:g} s; see its output")
    err.print("stopped")


def status(
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait up to two minutes until all services are ready.")] = False,
    show_secrets: Annotated[bool, typer.Option("--show-secrets", help="Also print the password of Postgres.")] = False,
) -> None:
    """Show the running processes and their state. Exit code 1 if none runs or one is not ready.

    With INFAAS_URL, the gateway of a remote system reports the status.
    """
    until = time.monotonic() + (_WAIT_S if wait else 0.0)
    if gateway_url():
        raise typer.Exit(0 if show_remote_status(home, until, as_json=as_json) else 1)
    state, problems = asyncio.run(read_when_ready(home, until))
    if as_json:
        show_json(state_as_json(state, problems, show_secrets=show_secrets))
    else:
        show(_processes_table(state, problems))
        show(places(state, show_secrets=show_secrets))
    if is_unready(state, problems):
        raise typer.Exit(1)


async def read_when_ready(home: Path, until: float) -> tuple[SystemState, dict[str, str]]:
    """Return the state, and the reason why each service is not ready (empty: it is ready).

    Polls until all services are ready, at the latest until `until`.
    """
    while True:
        state = read_state(home)
        problems = await _probe(state) if state is not None and state.ready else {}
        if (state is not None and problems and not is_unready(state, problems)) or time.monotonic() > until:
            state = state or running_state(home)
            return state, problems or dict.fromkeys(state.services, "starting")
        await asyncio.sleep(_CHECK_INTERVAL_S)


def is_unready(state: SystemState, problems: dict[str, str]) -> bool:
    """Return true if a service is not ready, or a server of the supervisor does not run."""
    return any(problems.values()) or any(server.state != "running" for server in state.servers.values())


async def _probe(state: SystemState) -> dict[str, str]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_S)) as http:
        async with asyncio.TaskGroup() as tasks:
            probes = {name: tasks.create_task(_problem(http, s.health)) for name, s in state.services.items()}
        return {name: probe.result() for name, probe in probes.items()}


async def _problem(http: aiohttp.ClientSession, url: str) -> str:
    """Return why a service is not ready, in its own words; empty if it is ready."""
    try:
        async with http.get(url) as response:
            if response.status == 200:
                return ""
            return str((await response.json()).get("reason") or "not ready")
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return "does not answer"


def state_as_json(state: SystemState, problems: dict[str, str], *, show_secrets: bool) -> dict[str, Any]:
    """Return the state as `--json` prints it, with the reason why each service is not ready (empty: it is ready)."""
    services = {
        name: {**msgspec.structs.asdict(service), "ready": not problems[name], "reason": problems[name]}
        for name, service in state.services.items()
    }
    servers = {name: msgspec.structs.asdict(server) for name, server in state.servers.items()}
    postgres = state.postgres if show_secrets else without_password(state.postgres)
    return {**msgspec.structs.asdict(state), "postgres": postgres, "servers": servers, "services": services}


def _processes_table(state: SystemState, problems: dict[str, str]) -> Table:
    servers = [(name, one.state, one.pid, one.restarts, one.address) for name, one in state.servers.items()]
    services = [
        (name, problems[name] or "ready", service.pid, service.restarts, service.metrics)
        for name, service in state.services.items()
    ]
    return table(
        ("process", "state", "pid>", "restarts>", "address"), [*servers, *services], optional_columns=("pid>",)
    )


def places(state: SystemState, *, show_secrets: bool = False) -> Table:
    """Return the addresses of a system, and what its operator should know."""
    found = (
        ("gateway", state.gateway),
        *([("gRPC", state.grpc)] if state.grpc else []),
        ("Kafka", f"{state.kafka} ({state.kafka_kind}){_kafka_login(state.kafka_login)}"),
        *_warnings(state),
        *((f"alarm: {name}", server.alarm) for name, server in state.servers.items() if server.alarm),
        ("Postgres", state.postgres if show_secrets else without_password(state.postgres)),
        ("logs", "  ".join(sorted({str(Path(service.log).parent) for service in state.services.values()}))),
        ("topics", f"{topics.TASKS}<task>[.offline] in, {topics.RESULTS}<task> or your reply topic out"),
    )
    return facts(found)


def _kafka_login(login: Mapping[str, str]) -> str:
    """Return the Kafka user and the path of its password file as text."""
    user, file = login.get("sasl_username"), login.get("sasl_password_file")
    return f", as {user}" * bool(user) + f", password in {file}" * bool(file)


def _warnings(state: SystemState) -> list[tuple[str, str]]:
    """Return warnings: limits of the embedded broker, why it is used, and why there is no sandbox."""
    missing = state.sandbox_missing
    sandbox = [("no sandbox", f"registration steps have all permissions of this user: {missing}")] if missing else []
    if state.kafka_kind != KafkaKind.EMBEDDED:
        return sandbox
    because = [("because", f"Apache Kafka is not available: {state.kafka_reason}")] if state.kafka_reason else []
    return [("limits", LIMITS), *because, *sandbox]
