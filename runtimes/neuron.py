"""AWS Inferentia chips as their driver shows them in files: no package is needed for these questions.

A chip is a group of cores that belongs to one process. Written after the documentation of the driver's sysfs and of the
Neuron runtime's configuration; the machine it was written on has no such chip.
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
    """Whether the Neuron driver and at least one chip are here."""
    if device_count():
        return Availability(True)
    return Availability(
        False, f"no Inferentia chip ({_DEVICES}/neuron0) on this machine: its driver is aws-neuronx-dkms"
    )


def device_count() -> int:
    """Number of chips of this machine."""
    return sum(1 for path in _DEVICES.glob("neuron*") if path.name.removeprefix("neuron").isdecimal())


def core_count(number: int) -> int:
    """Number of cores of a chip: four on Inf1, two on Inf2."""
    try:
        return int((_SYSFS / f"neuron{number}" / "core_count").read_text())
    except (OSError, ValueError):
        return _INF1_CORES


def use_device(number: int) -> None:
    """Have this process use the cores of one chip only; before the Neuron runtime starts in it."""
    first = sum(core_count(before) for before in range(number))
    os.environ[VISIBLE] = f"{first}-{first + core_count(number) - 1}"


def memory_total(number: int = 0) -> int:
    """Bytes of a chip's memory, as its data sheet says."""
    return _INF1_BYTES if core_count(number) == _INF1_CORES else _INF2_BYTES
