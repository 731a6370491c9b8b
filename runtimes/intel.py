"""Intel's GPUs and NPUs as Linux shows them in files: no package is needed for these questions.

They share the machine's memory. Written after the documentation of Linux's `drm` and `accel` classes; the machine it
was written on has neither, so beyond "there is none" it has not run yet.
"""

from pathlib import Path
from typing import Final

import psutil

from runtimes.protocol import Availability
from schemas.errors import OperatorError

_CLASSES: Final = Path("/sys/class")
_VENDOR: Final = "0x8086"


class IntelDevices:
    """Devices of one kind, by the files of its driver: `pattern` below /sys/class."""

    def __init__(self, name: str, pattern: str, driver: str) -> None:
        self.name = name
        """OpenVINO's name of it."""
        self._pattern = pattern
        self._driver = driver

    def availability(self) -> Availability:
        """Whether the driver and at least one device are here."""
        if self.device_count():
            return Availability(True)
        return Availability(False, f"no Intel {self.name} on this machine, or not its driver ({self._driver})")

    def device_count(self) -> int:
        """Number of devices of this machine."""
        return sum(1 for path in _CLASSES.glob(f"{self._pattern}/device/vendor") if _read(path) == _VENDOR)

    def use_device(self, number: int) -> None:
        """Have this process use one device only, which is always the first: OpenVINO takes that by itself."""
        if number > 0:
            raise OperatorError(f"only the first Intel {self.name} of a machine can be used, not number {number}")

    def memory_total(self, number: int = 0) -> int:
        """Bytes of memory, which is the machine's."""
        return psutil.virtual_memory().total


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


GPU: Final = IntelDevices("GPU", "drm/renderD*", "i915 or xe")
NPU: Final = IntelDevices("NPU", "accel/accel*", "intel_vpu")
