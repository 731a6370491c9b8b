"""No launcher: somebody else starts and stops the workers, by hand or with a tool of their own."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import LaunchedWorker, LauncherError
from autoscaler.settings import AutoscalerSettings


class NullLauncher:
    """As the protocol: has nothing and can start nothing."""

    @property
    def name(self) -> str:
        """As in the catalog."""
        return "none"

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """Nothing."""
        return {}

    async def running(self) -> list[LaunchedWorker]:
        """Nothing."""
        return []

    async def start(self, hardware: str, worker: str) -> None:
        """Never can."""
        raise LauncherError(f"cannot start {worker}: no launcher is set, see --launcher")

    async def stop(self, worker: str) -> None:
        """Never can."""
        raise LauncherError(f"cannot stop {worker}: no launcher is set, see --launcher")


@asynccontextmanager
async def open_launcher(settings: AutoscalerSettings) -> AsyncGenerator[NullLauncher]:
    """The launcher that is none."""
    yield NullLauncher()
