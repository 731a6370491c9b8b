"""Tests of processes that `infaas up` supervises: hanging ones are replaced, and workers follow commands."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil
import pytest

from infaas.up.state import read_state
from process.home import CommandReply, SupervisorCommand, send_command
from tests.processes import suspended
from tests.system.infaas.conftest import PREFIX, Cli, running
from tests.waiting import read_until, until

pytestmark = pytest.mark.needs_minutes

HANGING: Final = ("selector", "gateway", "autoscaler")
FIRST, SECOND = (f"{PREFIX}cpu-{number}" for number in range(2))
SERVICE: Final = f"worker-{SECOND}"


@pytest.fixture(scope="module")
def system(hosted: Cli) -> Generator[Cli]:
    """Run a system in which a hanging process is replaced after seconds."""
    flags = ("--max-workers=2", "--oversubscribe", "--launcher=none")
    with running(hosted, *flags, INFAAS_HANG_S="6") as cli:
        yield cli


async def test_hanging_services_are_replaced(system: Cli) -> None:
    state = await system.state()
    await until_watched(state, *HANGING)
    before = state["services"]
    hanging = [psutil.Process(before[name]["pid"]) for name in HANGING]
    for process in hanging:
        process.suspend()
    counts = {name: before[name]["restarts"] for name in (f"worker-{FIRST}", *HANGING)}
    await until(lambda: all(restarts(system)[name] > counts[name] for name in HANGING), 100)
    await system.state()
    assert not any(process.is_running() for process in hanging)
    assert {name: count - counts[name] for name, count in restarts(system).items() if name in counts} == {
        f"worker-{FIRST}": 0, **dict.fromkeys(HANGING, 1)
    }  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not group sessions")
async def test_autoscaler_yields_to_other_sessions(system: Cli) -> None:
    pid = (await system.state())["services"]["autoscaler"]["pid"]
    await until(lambda: Path(f"/proc/{pid}/autogroup").read_text().endswith(" nice 10\n"))


def restarts(cli: Cli) -> dict[str, int]:
    state = read_state(cli.home)
    assert state is not None
    return {name: service.restarts for name, service in state.services.items()}


async def test_supervisor_starts_stops_and_replaces_workers(system: Cli) -> None:
    await system.state()
    reply = await command(system, "start", SECOND)
    assert (reply.error, states(reply)) == ("", {FIRST: "running", SECOND: "starting"})
    assert states(await command(system, "start", SECOND)).keys() == states(reply).keys()
    assert "--max-workers" in (await command(system, "start", f"{PREFIX}cpu-2")).error
    assert f"{FIRST}, {SECOND}" in (await command(system, "start", "../cpu")).error

    started = await wait_for(system, {FIRST: "running", SECOND: "running"})
    assert started.start_s > 0.2
    pid = (await system.state())["services"][SERVICE]["pid"]
    os.kill(pid, signal.SIGKILL)
    state = await replaced(system, pid)
    assert state["services"][SERVICE]["restarts"] == 1

    hung = state["services"][SERVICE]["pid"]
    os.kill(hung, signal.SIGSTOP)
    state = await replaced(system, hung)
    assert not psutil.pid_exists(hung)
    assert state["services"][SERVICE]["restarts"] == 2

    async with suspended(state["services"][SERVICE]["pid"]):  # otherwise it may have ended before the checks
        stopped = await command(system, "stop", SECOND)
        assert states(stopped) == {FIRST: "running", SECOND: "stopping"}
        assert "stopping" in (await command(system, "start", SECOND)).error
    await wait_for(system, {FIRST: "running"})
    assert not psutil.pid_exists(state["services"][SERVICE]["pid"])
    assert SERVICE not in (await system.state())["services"]

    broken = system.home / "workers" / f"{SECOND}.journal"
    broken.unlink()
    broken.mkdir()  # a folder in the place of a file
    await command(system, "start", SECOND)
    reply = await wait_for(system, {FIRST: "running", SECOND: "failed"})
    assert "journal" in next(kept.reason for kept in reply.processes if kept.name == SECOND)
    broken.rmdir()
    await command(system, "start", SECOND)
    await wait_for(system, {FIRST: "running", SECOND: "running"})


async def replaced(cli: Cli, pid: int) -> Any:
    """Wait until the second worker has another process, which the supervisor watches; return the system's state."""
    state = await cli.state_when(lambda now: now["services"][SERVICE]["pid"] != pid, 100)
    await wait_for(cli, {FIRST: "running", SECOND: "running"})
    await until_watched(state, SERVICE)
    return state


async def until_watched(state: Any, *names: str) -> None:
    """Wait for the first liveness check of ready services; one that hangs earlier is not replaced for a minute.

    Of the supervisor's connections to a ready service, only that of the liveness checks is kept.
    """
    supervisor = psutil.Process(state["pid"])
    ports = {urlsplit(state["services"][name]["health"]).port for name in names}
    await until(lambda: ports <= {one.raddr.port for one in supervisor.net_connections() if one.raddr})


async def command(cli: Cli, verb: str, name: str) -> CommandReply:
    return await send_command(cli.home, SupervisorCommand(verb=verb, name=name))


def states(reply: CommandReply) -> dict[str, str]:
    return {kept.name: kept.state for kept in reply.processes}


async def wait_for(cli: Cli, wanted: dict[str, str]) -> CommandReply:
    return await read_until(lambda: command(cli, "list", ""), lambda reply: states(reply) == wanted, 100)
