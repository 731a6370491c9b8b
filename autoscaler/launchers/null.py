"""No launcher: the operator starts and stops workers, by hand or with another tool."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import LaunchedWorker, LauncherError
from autoscaler.settings import AutoscalerSettings


class NullLauncher:
    """Launcher that starts nothing."""

    @property
    def name(self) -> str:
        """Name in the setting `launcher`."""
        return "none"

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """Empty: no type of worker can be started."""
        return {}

    async def running(self) -> list[LaunchedWorker]:
        """Return no workers."""
        return []

    async def start(self, hardware: str, worker: str) -> None:
        """Raise `LauncherError`, because nothing can be started."""
        raise LauncherError(f"cannot start {worker}: no launcher is set, see --launcher")

    async def stop(self, worker: str) -> None:
        """Raise `LauncherError`, because nothing can be stopped."""
        raise LauncherError(f"cannot stop {worker}: no launcher is set, see --launcher")


@asynccontextmanager
async def open_launcher(settings: AutoscalerSettings) -> AsyncGenerator[NullLauncher]:
    """Open a launcher that starts nothing."""
    yield NullLauncher()
