"""AWS Inferentia chips according to their driver's files; no package is needed.

A chip is a group of cores that belongs to one process. Written from the documentation of the driver's sysfs and of the
Neuron runtime's configuration, and tested on a machine without such a chip.
"""

import os
from pathlib import Path
from typing import Final

from runtimes.protocol import Availability

VISIBLE: Final = "NEURON_RT_VISIBLE_CORES"
_DEVICES: Final = Path("/dev")
_SYSFS: Final = Path("/sys/devices/virtual/neuron_device")
_INF1_CORES: Final = 4
_INF1_BYTES: Final = 8 << 30
_INF2_BYTES: Final = 32 << 30


def availability() -> Availability:
    """Return an availability that is true if the Neuron driver and at least one chip are present."""
    if device_count():
        return Availability(True)
    return Availability(
        False, f"no Inferentia chip ({_DEVICES}/neuron0) on this machine: its driver is aws-neuronx-dkms"
    )


def device_count() -> int:
    """Return the number of chips of this machine."""
    return sum(1 for path in _DEVICES.glob("neuron*") if path.name.removeprefix("neuron").isdecimal())


def core_count(number: int) -> int:
    """Return the number of cores of a chip: four on Inf1, two on Inf2."""
    try:
        return int((_SYSFS / f"neuron{number}" / "core_count").read_text())
    except (OSError, ValueError):
        return _INF1_CORES


def use_device(number: int) -> None:
    """Restrict this process to the cores of one chip; call before the Neuron runtime starts in it."""
    first = sum(core_count(before) for before in range(number))
    os.environ[VISIBLE] = f"{first}-{first + core_count(number) - 1}"


def memory_total(number: int = 0) -> int:
    """Return the bytes of a chip's memory according to its data sheet."""
    return _INF1_BYTES if core_count(number) == _INF1_CORES else _INF2_BYTES
