"""Intel's GPUs and NPUs according to Linux's files; no package is needed.

They share the machine's memory. Written from the documentation of Linux's `drm` and `accel` classes, and tested on a
machine without such a device.
"""

from pathlib import Path
from typing import Final

import psutil

from runtimes.protocol import Availability
from schemas.errors import OperatorError

_CLASSES: Final = Path("/sys/class")
_VENDOR: Final = "0x8086"


class IntelDevices:
    """Devices of one kind, found by the files of their driver: `pattern` below /sys/class."""

    def __init__(self, name: str, pattern: str, driver: str) -> None:
        self.name = name
        """OpenVINO's name of the device."""
        self._pattern = pattern
        self._driver = driver

    def availability(self) -> Availability:
        """Return an availability that is true if the driver and at least one device are present."""
        if self.device_count():
            return Availability(True)
        return Availability(False, f"no Intel {self.name} on this machine, or its driver ({self._driver}) is missing")

    def device_count(self) -> int:
        """Return the number of devices of this machine."""
        return sum(1 for path in _CLASSES.glob(f"{self._pattern}/device/vendor") if _read(path) == _VENDOR)

    def use_device(self, number: int) -> None:
        """Accept the first device, which OpenVINO uses by default; raise OperatorError for any other."""
        if number > 0:
            raise OperatorError(f"only the first Intel {self.name} of a machine can be used, not number {number}")

    def memory_total(self, number: int = 0) -> int:
        """Return the bytes of the machine's memory, which the device shares."""
        return psutil.virtual_memory().total


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


GPU: Final = IntelDevices("GPU", "drm/renderD*", "i915 or xe")
NPU: Final = IntelDevices("NPU", "accel/accel*", "intel_vpu")
