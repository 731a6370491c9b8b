"""Tests of `infaas up` with real servers and services, which are killed and stopped in several ways."""

import asyncio
import base64
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from broker.kafka.cluster import ping
from broker.kafka.settings import KafkaSettings
from schemas.errors import OperatorError
from tests.processes import name_of
from tests.system.infaas.conftest import FREE_PORTS, Cli
from tests.system.infaas.secrets import places_that_show
from tests.unit.infaas.conftest import shell
from tests.unit.infaas.shell import Shell
from tests.waiting import read_until

pytestmark = pytest.mark.needs_minutes

__all__ = ["shell"]

SECRETS = {
    "INFAAS_SIGNING_SECRET": "hush" * 8,
    "INFAAS_WEBHOOK_HOSTS": '["hooks.example.com"]',
    "INFAAS_JOBS_WEBHOOK_SECRET": f"whsec_{base64.b64encode(b'hush' * 8).decode()}",
}


async def test_up_heals_services_stops_and_shows_no_secret(cli: Cli) -> None:
    """The system is the second one in its home; the supervisor of the first was killed."""
    await killed_supervisor_leaves_no_process(cli)
    async with cli.up("--auth", "--selectors=2", "--workers=2", "--jobs=2", **SECRETS) as supervisor:
        state = await cli.json("status", "--wait")
        assert state["gateway"].startswith("http://127.0.0.1:")
        assert state["postgres"].startswith("postgresql://")
        assert set(state["services"]) == {
            *("autoscaler", "selector", "selector-1", "worker-cpu-0", "worker-cpu-1", "gateway", "jobs", "jobs-1")
        }
        assert all(service["ready"] for service in state["services"].values())

        selector = state["services"]["selector"]["pid"]
        os.kill(selector, signal.SIGKILL)
        healed = await cli.state_when(lambda now: now["services"]["selector"]["restarts"] == 1)
        assert healed["services"]["selector"]["pid"] != selector
        assert healed["services"]["gateway"]["restarts"] == 0

        passwords = [(cli.home / server / "password").read_text() for server in ("kafka", "postgres")]
        whole = await cli.json("status", "--show-secrets")
        assert passwords[1] in whole["postgres"]
        with pytest.raises(OperatorError, match="cannot reach Kafka"):
            await ping(KafkaSettings(bootstrap=whole["kafka"], request_timeout_ms=2000))
        assert await ping(KafkaSettings(bootstrap=whole["kafka"], **whole["kafka_login"])) == 1
        admin = (await cli.json("keys", "create", "--role=admin"))["key"]
        by_http = {"INFAAS_URL": state["gateway"], "INFAAS_KEY": admin}
        # until the gateway knows the key
        await read_until(lambda: cli.run("keys", "list", **by_http), lambda done: done[0] == 0)
        key = await cli.json("keys", "create", "--tenant=acme", **by_http)
        await cli.run("tenants", "create", "acme", **by_http)
        _, signing_key, _ = await cli.run("tenants", "key", "acme", **by_http)
        assert signing_key.startswith("infaas-sk.acme.")
        planted = [*passwords, SECRETS["INFAAS_JOBS_WEBHOOK_SECRET"], SECRETS["INFAAS_SIGNING_SECRET"]]
        planted += [*(made.split("_", 2)[2] for made in (admin, key["key"])), signing_key.strip().rpartition(".")[2]]
        places = {"INFAAS_KAFKA": whole["kafka"], "INFAAS_POSTGRES": whole["postgres"], **SECRETS}
        places |= {f"INFAAS_KAFKA_{name.upper()}": value for name, value in whole["kafka_login"].items()}
        assert await places_that_show(cli, healed, planted, places) == []
        code, _, err = await cli.run("up", *FREE_PORTS)
        assert (code, "already runs" in err) == (1, True), "two systems in one home are refused"

        pids = [service["pid"] for service in healed["services"].values()]
        code, _, err = await cli.run("down")
        assert code == 0, err
        async with asyncio.timeout(100):
            assert await supervisor.wait() == 0
            assert supervisor.stderr is not None
            said = (await supervisor.stderr.read()).decode()
        assert "starting the services" in said
        assert not any(secret in said for secret in planted)
        assert not any(psutil.pid_exists(pid) for pid in pids)
    code, _, err = await cli.run("status")
    assert code == 1
    assert "no system runs" in err


async def killed_supervisor_leaves_no_process(cli: Cli) -> None:
    supervisor = await cli.start("up", "--auth", *FREE_PORTS)
    state = await cli.state()
    children = psutil.Process(supervisor.pid).children(recursive=True)
    names = [name_of(process) for process in children]
    assert "java" in names
    assert "postgres" in names
    assert {service["pid"] for service in state["services"].values()} <= {process.pid for process in children}
    supervisor.kill()
    await supervisor.communicate()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=60)
    assert not alive
    assert len(gone) == len(children)
    code, _, err = await cli.run("status")  # the state file exists, but its process does not
    assert code == 1
    assert "no system runs" in err


async def test_all_processes_may_be_stopped_at_once(hosted: Cli) -> None:
    supervisor = await hosted.start("up", *FREE_PORTS)
    state = await hosted.state()
    gateway = psutil.Process(state["services"]["gateway"]["pid"])
    supervisor.terminate()
    # The gateway stops first; the supervisor and this test then both stop the others.
    await asyncio.to_thread(gateway.wait, 100)
    for service in state["services"].values():
        with suppress(ProcessLookupError):
            os.kill(service["pid"], signal.SIGTERM)
    async with asyncio.timeout(100):
        _, err = await supervisor.communicate()
    assert supervisor.returncode == 0
    assert b"restarting it" not in err


@pytest.mark.parametrize("flag", ["--gateway-port", "--grpc-port", "--kafka-port", "--postgres-port"])
def test_up_names_port_in_use_before_start(shell: Shell, tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = shell("up", *FREE_PORTS, f"{flag}={port}")
    assert told.exit_code == 1
    assert f"port {port}" in told.stderr
    assert flag in told.stderr
    assert not (tmp_path / "postgres").exists()


async def test_up_quotes_error_of_failed_service(hosted: Cli) -> None:
    words = (*FREE_PORTS, "--jobs=0", "--registrars=0")
    code, _, err = await hosted.run("up", *words, INFAAS_SELECTOR_MAX_UNLISTED_TENANTS="none")
    assert code == 1
    assert "selector" in err
    assert "does not start" in err
    assert "max-unlisted-tenants" in err
    assert "Traceback" not in err


def test_up_refuses_address_of_another_machine(shell: Shell) -> None:
    told = shell("up", *FREE_PORTS, "--gateway-host=not.an.address.invalid")
    assert told.exit_code == 1
    assert "not.an.address.invalid" in told.stderr
