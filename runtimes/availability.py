"""Whether a runtime can run here: it knows the hardware, the device is there, and so is what it is built on."""

import importlib.util
from collections.abc import Callable, Collection

from runtimes.device import missing_device
from runtimes.protocol import Availability


def runtime_availability(name: str, hardware: str, on: Collection[str], missing: Callable[[], str]) -> Availability:
    """Whether the runtime `name`, which runs `on` some hardware types, can run; the reason says all that is missing.

    `missing` says what there is not of what it is built on; empty: nothing.
    """
    if hardware not in on:
        return Availability(False, f"runtime {name} does not run on {hardware}")
    reason = "; ".join(filter(None, (missing_device(hardware), missing())))
    return Availability(not reason, reason)


def missing_package(package: str, shown: str, extra: str) -> str:
    """What to say of a package that is not installed, without importing it; empty if it is."""
    if importlib.util.find_spec(package) is not None:
        return ""
    return f"{shown} is not installed: pip install 'infaas[{extra}]'"
