"""Launchers by name. A new launcher needs one file and one line here.

Each is imported only when it is configured, because some need large libraries that are not installed everywhere.
"""

import importlib
from contextlib import AbstractAsyncContextManager
from typing import Final

from autoscaler.launchers.base import Launcher
from autoscaler.settings import AutoscalerSettings
from schemas.errors import OperatorError

_MODULES: Final = {
    "none": "autoscaler.launchers.null",
    "processes": "autoscaler.launchers.processes",
    "ray": "autoscaler.launchers.ray.launcher",
    "kubernetes": "autoscaler.launchers.kubernetes",
}


def open_launcher(settings: AutoscalerSettings) -> AbstractAsyncContextManager[Launcher]:
    """Open the configured launcher for the duration of the context.

    Raises:
        OperatorError: the name is unknown; or, on entry, a setting of the launcher is wrong.
    """
    module = _MODULES.get(settings.launcher)
    if module is None:
        raise OperatorError(f"--launcher {settings.launcher!r}: there are {', '.join(_MODULES)}")
    return importlib.import_module(module).open_launcher(settings)
