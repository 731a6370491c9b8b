"""No launcher: somebody else starts and stops the workers, by hand or with a tool of their own."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import LaunchedWorker, LauncherError
from autoscaler.settings import AutoscalerSettings


class NullLauncher:
    """Launcher that starts nothing."""

    @property
    def name(self) -> str:
        """Name by which the settings choose it."""
        return "none"

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """No types of workers."""
        return {}

    async def running(self) -> list[LaunchedWorker]:
        """No workers."""
        return []

    async def start(self, hardware: str, worker: str) -> None:
        """Raise: nothing can be started."""
        raise LauncherError(f"cannot start {worker}: no launcher is set, see --launcher")

    async def stop(self, worker: str) -> None:
        """Raise: nothing can be stopped."""
        raise LauncherError(f"cannot stop {worker}: no launcher is set, see --launcher")


@asynccontextmanager
async def open_launcher(settings: AutoscalerSettings) -> AsyncGenerator[NullLauncher]:
    """Open a launcher that starts nothing."""
    yield NullLauncher()
