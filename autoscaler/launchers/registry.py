"""Launchers by name. A new launcher needs one file and one line here.

Each is imported only when it is configured, because some need large libraries that are not installed everywhere.
"""

import importlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from autoscaler.decide.snapshot import HardwareType
from autoscaler.launchers.base import Launcher, LauncherError
from autoscaler.launchers.launched_worker import LaunchedWorker
from autoscaler.settings import AutoscalerSettings
from process.module_names import module_name
from schemas.errors import OperatorError

_NONE: Final = "none"
_MODULES: Final = {
    "processes": "autoscaler.launchers.processes",
    "ray": "autoscaler.launchers.ray.launcher",
    "kubernetes": "autoscaler.launchers.kubernetes",
}


def open_launcher(settings: AutoscalerSettings) -> AbstractAsyncContextManager[Launcher]:
    """Open the configured launcher for the duration of the context.

    Raises:
        OperatorError: the name is unknown; or, on entry, a setting of the launcher is wrong.
    """
    if settings.launcher == _NONE:
        return nullcontext(NullLauncher())
    module = _MODULES.get(settings.launcher)
    if module is None:
        names = ", ".join((_NONE, *_MODULES))
        raise OperatorError(f"--launcher {settings.launcher!r}: there are {names}")
    return importlib.import_module(module_name(module)).open_launcher(settings)


class NullLauncher:
    """No launcher: the operator starts and stops workers, by hand or with another tool."""

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
