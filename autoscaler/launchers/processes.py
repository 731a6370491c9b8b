"""Workers as processes of this machine, kept by `infaas up`.

The processes are its children, not ours: they outlive a killed autoscaler and are there for the next, they end with
`infaas up`, and one that dies is started again at once under its name, so that it takes its own leases back. We only
say which should be there. There is one supervisor a home, so nothing is ever started twice.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import LaunchedWorker, LauncherError, LaunchState
from autoscaler.settings import AutoscalerSettings
from process.supervisor_socket import (
    CommandReply,
    ProcessPool,
    SupervisorCommand,
    SupervisorUnavailable,
    send_command,
)
from schemas.hardware import list_price, slots_of
from schemas.worker_names import hardware_of

NAME: Final = "processes"


class ProcessLauncher:
    """Launcher of processes by `infaas up`; `home` is the folder where that runs."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._hardware: dict[str, HardwareType] = {}

    @property
    def name(self) -> str:
        """Name by which the settings choose it."""
        return NAME

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """Type of workers that the supervisor last said it can start; nothing before the first `running`."""
        return self._hardware

    async def running(self) -> list[LaunchedWorker]:
        """List the workers that the supervisor keeps running."""
        report = await self._send("list")
        return [
            LaunchedWorker(
                worker=kept.name, hardware=hardware_of(kept.name), state=LaunchState(kept.state), reason=kept.reason
            )
            for kept in report.processes
        ]

    async def start(self, hardware: str, worker: str) -> None:
        """Have the supervisor keep a process of this name running."""
        if hardware not in self._hardware:
            raise LauncherError(f"processes of this machine are {', '.join(self._hardware)}, not {hardware}")
        await self._send("start", worker)

    async def stop(self, worker: str) -> None:
        """Have the supervisor end the process of this name."""
        await self._send("stop", worker)

    async def _send(self, verb: str, worker: str = "") -> CommandReply:
        try:
            report = await send_command(self._home, SupervisorCommand(verb=verb, name=worker))
        except SupervisorUnavailable as error:
            raise LauncherError(str(error)) from error
        self._hardware = {pool.hardware: _hardware_type(pool, report) for pool in report.pools}
        if report.error:
            raise LauncherError(report.error)
        return report


def _hardware_type(pool: ProcessPool, report: CommandReply) -> HardwareType:
    return HardwareType(
        name=pool.hardware,
        price_per_hour=list_price(pool.hardware, pool.cores),
        start_s=report.start_s,
        prefix=report.prefix,
        slots=slots_of(pool.hardware, pool.cores, threads=1),
        memory_bytes=pool.memory_bytes,
        maximum=pool.maximum,
    )


@asynccontextmanager
async def open_launcher(settings: AutoscalerSettings) -> AsyncGenerator[ProcessLauncher]:
    """Open a launcher for the home that the settings name."""
    yield ProcessLauncher(settings.home)
