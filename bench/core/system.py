"""Whole system, started with `infaas up` as a user does, on free ports and in a temporary home."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker.kafka.settings import KafkaSettings
from infaas.up.state import read_state
from process.sockets import free_port

_UP_S = 120.0
_DOWN_S = 60.0


class SystemUnderTest:
    """Running system: the addresses of its parts."""

    def __init__(self, home: Path, state: dict[str, Any]) -> None:
        self.home = home
        self.pid: int = state["pid"]
        """Process id of `infaas up`, the ancestor of all other processes."""
        self.gateway: str = state["gateway"]
        self.grpc: str = state["grpc"]
        """Address of the gateway's gRPC, as `host:port`."""
        self.postgres: str = state["postgres"]
        self.kafka = KafkaSettings(bootstrap=state["kafka"], fetch_max_wait_ms=state["fetch_max_wait_ms"])

    async def pid_of(self, service: str) -> int:
        """Return the process id of the first service whose name begins with `service`."""
        return next(pid for name, pid, _log in await self._services() if name.startswith(service))

    async def leading_autoscaler(self) -> int:
        """Return the process id of the autoscaler that leads, according to its log."""
        return next(pid for name, pid, log in await self._services() if "autoscaler" in name and _leads(log))

    async def metrics(self) -> dict[str, str]:
        """Return the URL of the metrics of each service."""
        state = await asyncio.to_thread(read_state, self.home)
        return {name: service.metrics for name, service in state.services.items()} if state else {}

    async def _services(self) -> list[tuple[str, int, Path]]:
        """Return name, process id and log of each service, ready or not."""
        state = await asyncio.to_thread(read_state, self.home)
        return [(name, s.pid, Path(s.log)) for name, s in state.services.items()] if state else []


@asynccontextmanager
async def running_system(broker: str, *tasks: str) -> AsyncGenerator[SystemUnderTest]:
    """Run a system on the `embedded` or the `apache` broker, with these tasks of the zoo registered."""
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        async with running_at(Path(folder), broker, *tasks) as system:
            yield system


@asynccontextmanager
async def running_at(
    home: Path, broker: str, *tasks: str, flags: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> AsyncGenerator[SystemUnderTest]:
    """Run a system in a folder, with earlier registrations there kept; `flags` are passed to `infaas up`."""
    ports = [f"--{part}-port={free_port()}" for part in ("gateway", "grpc", "kafka", "postgres")]
    command = [sys.executable, "-m", "infaas.cli.main", "up", "--kafka", broker, *ports, *flags]
    up = await asyncio.create_subprocess_exec(*command, env={**_environment(home), **(env or {})})
    try:
        async with asyncio.timeout(_UP_S):
            state = json.loads(await infaas(home, "status", "--json", "--wait", "--show-secrets"))
        if tasks:
            await infaas(home, "register", "--zoo", *tasks)
        yield SystemUnderTest(home, state)
    finally:
        if up.returncode is None:
            up.terminate()
        async with asyncio.timeout(_DOWN_S):
            await up.wait()


def _leads(log: Path) -> bool:
    text = log.read_text()
    return text.rfind(": leading") > text.rfind("no longer leading")


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "INFAAS_HOME": str(home)}


async def infaas(home: Path, *arguments: str, **variables: str) -> str:
    """Run a command of the command line on the system in a folder, with further environment variables.

    Returns:
        Its output.

    Raises:
        RuntimeError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "infaas.cli.main"), *arguments,
        env=_environment(home) | variables, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"`infaas {' '.join(arguments)}` failed with exit code {process.returncode}")
    return output.decode()
