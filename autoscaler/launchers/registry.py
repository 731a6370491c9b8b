"""The launchers there are, by name. A new launcher is one file and one line here.

Each is imported only when it is named: the libraries that some of them need are large, and not everywhere.
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
    """Open the launcher that the settings name, for the time of the context.

    Raises:
        OperatorError: there is none of this name; the message names those there are. Or, on entry: it is set up wrong.
    """
    module = _MODULES.get(settings.launcher)
    if module is None:
        raise OperatorError(f"--launcher {settings.launcher!r}: there are {', '.join(_MODULES)}")
    return importlib.import_module(module).open_launcher(settings)
