"""Names of our modules, as strings: in a checkout `selector`, in an installed wheel `infaas.selector`."""

from pathlib import Path
from typing import Final

_PARENT: Final = __name__.removesuffix("process.module_names")
CODE_FOLDER: Final = Path(__file__).parents[__name__.count(".")]
"""Folder on the import path that holds our packages."""


def module_name(module: str) -> str:
    """Return the import name of one of our modules, which is given by its name in a checkout."""
    return _PARENT + module
