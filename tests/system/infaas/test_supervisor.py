"""Tests of processes that `infaas up` supervises: hanging ones are replaced, and workers follow commands."""

import os
import signal
from collections.abc import Generator
from typing import Any, Final

import psutil
import pytest

from infaas.up.state import read_state
from process.home import CommandReply, SupervisorCommand, send_command
from tests.processes import suspended
from tests.system.infaas.conftest import Cli, running
from tests.waiting import read_until, until

HANGING: Final = ("selector", "gateway", "autoscaler")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cli]:
    """Run a system in which a hanging process is replaced after seconds."""
    flags = ("--max-workers=2", "--oversubscribe", "--launcher=none")
    with running(tmp_path_factory.mktemp("supervised") / "home", *flags, INFAAS_HANG_S="6") as cli:
        yield cli


async def test_hanging_services_are_replaced(system: Cli) -> None:
    before = (await system.json("status", "--wait"))["services"]
    hanging = [psutil.Process(before[name]["pid"]) for name in HANGING]
    for process in hanging:
        process.suspend()
    counts = {name: before[name]["restarts"] for name in ("worker-cpu-0", *HANGING)}
    await until(lambda: all(restarts(system)[name] > counts[name] for name in HANGING), 100)
    await system.json("status", "--wait")
    assert not any(process.is_running() for process in hanging)
    assert {name: count - counts[name] for name, count in restarts(system).items() if name in counts} == {
        "worker-cpu-0": 0, **dict.fromkeys(HANGING, 1)
    }  # fmt: skip


def restarts(cli: Cli) -> dict[str, int]:
    state = read_state(cli.home)
    assert state is not None
    return {name: service.restarts for name, service in state.services.items()}


async def test_supervisor_starts_stops_and_replaces_workers(system: Cli) -> None:
    await system.json("status", "--wait")
    reply = await command(system, "start", "cpu-1")
    assert (reply.error, states(reply)) == ("", {"cpu-0": "running", "cpu-1": "starting"})
    assert states(await command(system, "start", "cpu-1")).keys() == states(reply).keys()
    assert "--max-workers" in (await command(system, "start", "cpu-2")).error
    assert "cpu-0, cpu-1" in (await command(system, "start", "../cpu")).error

    started = await wait_for(system, {"cpu-0": "running", "cpu-1": "running"})
    assert started.start_s > 0.2
    pid = (await system.json("status"))["services"]["worker-cpu-1"]["pid"]
    os.kill(pid, signal.SIGKILL)
    state = await system.json("status", "--wait")
    assert state["services"]["worker-cpu-1"]["pid"] != pid
    assert state["services"]["worker-cpu-1"]["restarts"] == 1

    hung = state["services"]["worker-cpu-1"]["pid"]
    os.kill(hung, signal.SIGSTOP)
    state = await replaced(system, "worker-cpu-1", hung)
    assert not psutil.pid_exists(hung)
    assert state["services"]["worker-cpu-1"]["restarts"] == 2

    async with suspended(state["services"]["worker-cpu-1"]["pid"]):  # otherwise it may have ended before the checks
        stopped = await command(system, "stop", "cpu-1")
        assert states(stopped) == {"cpu-0": "running", "cpu-1": "stopping"}
        assert "stopping" in (await command(system, "start", "cpu-1")).error
    await wait_for(system, {"cpu-0": "running"})
    assert not psutil.pid_exists(state["services"]["worker-cpu-1"]["pid"])
    assert "worker-cpu-1" not in (await system.json("status"))["services"]

    broken = system.home / "workers" / "cpu-1.journal"
    broken.unlink()
    broken.mkdir()  # a folder in the place of a file
    await command(system, "start", "cpu-1")
    reply = await wait_for(system, {"cpu-0": "running", "cpu-1": "failed"})
    assert "journal" in next(kept.reason for kept in reply.processes if kept.name == "cpu-1")
    broken.rmdir()
    await command(system, "start", "cpu-1")
    await wait_for(system, {"cpu-0": "running", "cpu-1": "running"})


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
