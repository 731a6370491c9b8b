"""Test of worker processes that `infaas up` starts, stops and replaces by command."""

import os
import signal
from typing import Any

import psutil
import pytest

from infaas.supervisor.state import read_state
from process.supervisor_socket import CommandReply, SupervisorCommand, send_command
from tests.processes import suspended
from tests.system.infaas.conftest import Cli
from tests.waiting import read_until, until

pytestmark = pytest.mark.timeout(400)


async def test_supervisor_starts_stops_and_replaces_workers(cli: Cli) -> None:
    async with cli.up("--max-workers=2", "--oversubscribe", "--launcher=none", INFAAS_HANG_S="6"):
        await cli.json("status", "--wait")
        reply = await command(cli, "start", "cpu-1")
        assert (reply.error, states(reply)) == ("", {"cpu-0": "running", "cpu-1": "starting"})
        assert states(await command(cli, "start", "cpu-1")).keys() == states(reply).keys()
        assert "--max-workers" in (await command(cli, "start", "cpu-2")).error
        assert "cpu-0, cpu-1" in (await command(cli, "start", "../cpu")).error

        started = await wait_for(cli, {"cpu-0": "running", "cpu-1": "running"})
        assert started.start_s > 0.2
        pid = (await cli.json("status"))["services"]["worker-cpu-1"]["pid"]
        os.kill(pid, signal.SIGKILL)
        state = await cli.json("status", "--wait")
        assert state["services"]["worker-cpu-1"]["pid"] != pid
        assert state["services"]["worker-cpu-1"]["restarts"] == 1

        hung = state["services"]["worker-cpu-1"]["pid"]
        os.kill(hung, signal.SIGSTOP)
        state = await replaced(cli, "worker-cpu-1", hung)
        assert not psutil.pid_exists(hung)
        assert state["services"]["worker-cpu-1"]["restarts"] == 2

        async with suspended(state["services"]["worker-cpu-1"]["pid"]):  # otherwise it may have ended before the checks
            stopped = await command(cli, "stop", "cpu-1")
            assert states(stopped) == {"cpu-0": "running", "cpu-1": "stopping"}
            assert "stopping" in (await command(cli, "start", "cpu-1")).error
        await wait_for(cli, {"cpu-0": "running"})
        assert not psutil.pid_exists(state["services"]["worker-cpu-1"]["pid"])
        assert "worker-cpu-1" not in (await cli.json("status"))["services"]

        broken = cli.home / "workers" / "cpu-1.journal"
        broken.unlink()
        broken.mkdir()  # a folder in the place of a file
        await command(cli, "start", "cpu-1")
        reply = await wait_for(cli, {"cpu-0": "running", "cpu-1": "failed"})
        assert "journal" in next(kept.reason for kept in reply.processes if kept.name == "cpu-1")
        broken.rmdir()
        await command(cli, "start", "cpu-1")
        await wait_for(cli, {"cpu-0": "running", "cpu-1": "running"})


async def replaced(cli: Cli, service: str, pid: int) -> Any:
    """Wait until a service has another process and all are ready; return the state of the system."""
    await until(lambda: (state := read_state(cli.home)) and state.services[service].pid != pid, 100)
    return await cli.json("status", "--wait")


async def command(cli: Cli, verb: str, name: str) -> CommandReply:
    return await send_command(cli.home, SupervisorCommand(verb=verb, name=name))


def states(reply: CommandReply) -> dict[str, str]:
    return {kept.name: kept.state for kept in reply.processes}


async def wait_for(cli: Cli, wanted: dict[str, str]) -> CommandReply:
    return await read_until(lambda: command(cli, "list", ""), lambda reply: states(reply) == wanted, 100)
