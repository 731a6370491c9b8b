"""`infaas console`: the pages of a system in a browser."""

import os
import webbrowser
from typing import Final

import typer

from infaas.cli.connect import DEFAULT_HOME, Home, find_gateway

_PATH: Final = "/console"
_GRAPHICAL: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Environment variables of which one is set where a browser can open; one in the terminal would take it over."""


def console(home: Home = DEFAULT_HOME) -> None:
    """Print the address of the system's console, and open it in a browser if there is one."""
    address = find_gateway(home) + _PATH
    typer.echo(address)
    if any(os.environ.get(name) for name in _GRAPHICAL):
        webbrowser.open(address)
