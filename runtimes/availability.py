"""Availability of a runtime here: the hardware type, the device, and the packages it needs."""

import importlib.util
from collections.abc import Callable, Collection

from runtimes.device import missing_device
from runtimes.protocol import Availability


def runtime_availability(name: str, hardware: str, on: Collection[str], missing: Callable[[], str]) -> Availability:
    """Return the availability of runtime `name`, which supports the hardware types `on`, with the reasons against it.

    `missing` returns a message about missing packages; empty: none is missing.
    """
    if hardware not in on:
        return Availability(False, f"runtime {name} does not run on {hardware}")
    reason = "; ".join(filter(None, (missing_device(hardware), missing())))
    return Availability(not reason, reason)


def missing_package(package: str, shown: str, extra: str) -> str:
    """Return a message if a package is not installed, without importing it; empty if it is installed."""
    if importlib.util.find_spec(package) is not None:
        return ""
    return f"{shown} is not installed: pip install 'infaas[{extra}]'"
