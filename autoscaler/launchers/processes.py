"""Workers as processes of this machine, run by `infaas up`.

The workers are child processes of `infaas up`, not of the autoscaler. So they survive a killed autoscaler and end with
`infaas up`. One that dies is restarted at once under its name, so that it regains its own leases. The launcher only
sends the wanted processes to the supervisor. There is one supervisor per home, so no worker is started twice.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import LauncherError
from autoscaler.launchers.launched_worker import LaunchedWorker, LaunchState
from autoscaler.settings import AutoscalerSettings
from process.home import CommandReply, ProcessPool, SupervisorCommand, SupervisorUnavailable, send_command
from schemas.hardware import list_price, slots_of
from schemas.names import hardware_of


class ProcessLauncher:
    """Launcher of processes through `infaas up` of the folder `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._hardware: dict[str, HardwareType] = {}

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """Types of workers that the supervisor last reported; empty before the first `running`."""
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
        """Make the supervisor keep a process of this name running."""
        if hardware not in self._hardware:
            raise LauncherError(f"processes of this machine are {', '.join(self._hardware)}, not {hardware}")
        await self._send("start", worker)

    async def stop(self, worker: str) -> None:
        """Make the supervisor end the process of this name."""
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
    """Open a launcher for the home in the settings."""
    yield ProcessLauncher(settings.home)
