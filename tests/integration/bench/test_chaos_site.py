"""Tests of the chaos site: it finds exactly the processes that a fault names."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import psutil
import pytest

from infaas.up.state import ServiceState, SystemState, claimed, write_state
from process.subprocesses import running
from tests.chaos.site import MissedTargetError, Site, kill

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

MODULES = ("registry.service", "gateway.jobs", "workers", "workers")


@asynccontextmanager
async def some_site(home: Path) -> AsyncGenerator[tuple[Site, list[asyncio.subprocess.Process]]]:
    """Run processes with the command lines of services, and list them in the state file of a home."""
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(home))
        processes: list[asyncio.subprocess.Process] = []
        for number, module in enumerate(MODULES):
            command = [sys.executable, "-c", "import signal; signal.pause()", "-m", module]
            processes.append(await stack.enter_async_context(running(command, home / f"{number}.log")))
        services = {
            f"service-{number}": ServiceState(module=module, pid=process.pid, restarts=0, health="", metrics="", log="")
            for number, (module, process) in enumerate(zip(MODULES, processes, strict=True))
        }
        state = SystemState(
            pid=1, ready=True, gateway="", kafka="", kafka_kind="apache", kafka_reason="", fetch_max_wait_ms=500,
            postgres="", servers={}, services=services,
        )  # fmt: skip
        write_state(home, state)
        yield Site(cast("SystemUnderTest", SimpleNamespace(home=home))), processes


async def test_site_find_tells_kinds_of_service_apart(tmp_path: Path) -> None:
    async with some_site(tmp_path) as (site, (registrar, jobs, first, second)):
        found = {kind: [p.pid for p in site.find(kind)] for kind in ("registrar", "jobs", "worker")}
    assert found == {"registrar": [registrar.pid], "jobs": [jobs.pid], "worker": [first.pid, second.pid]}


async def test_site_find_ignores_a_reused_process_id(tmp_path: Path) -> None:
    async with some_site(tmp_path) as (site, (registrar, *_others)):
        other = ServiceState(module="gateway", pid=registrar.pid, restarts=0, health="", metrics="", log="")
        state = SystemState(
            pid=1, ready=True, gateway="", kafka="", kafka_kind="apache", kafka_reason="", fetch_max_wait_ms=500,
            postgres="", servers={}, services={"gateway": other},
        )  # fmt: skip
        write_state(tmp_path, state)
        assert site.find("gateway") == []


async def test_kill_of_an_ended_process_is_a_missed_target(tmp_path: Path) -> None:
    async with some_site(tmp_path) as (_site, (registrar, *_others)):
        victim = psutil.Process(registrar.pid)
        registrar.kill()
        await registrar.wait()
        with pytest.raises(MissedTargetError, match="ended before SIGKILL"):
            await kill([victim])
