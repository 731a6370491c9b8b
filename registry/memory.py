"""Growth of this process's peak memory, or of the device's."""

from pathlib import Path
from typing import Final

import psutil

from runtimes import cuda
from schemas.hardware import Hardware

_RESET: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")


class MemoryGrowth:
    """Bytes that were added, at the highest point, since this object was made."""

    def __init__(self, hardware: str) -> None:
        self._on_cuda = hardware == Hardware.CUDA
        self._process = psutil.Process()
        _reset_peak()
        self._start = cuda.memory_used() if self._on_cuda else self._process.memory_info().rss

    def peak_bytes(self) -> int:
        """The growth until now; on a device, where no peak is kept, what is in use now."""
        now = cuda.memory_used() if self._on_cuda else max(_peak(), self._process.memory_info().rss)
        return max(now - self._start, 0)


def _reset_peak() -> None:
    """Linux keeps the peak since the start of the process, unless told to forget it."""
    try:
        _RESET.write_text("5")
    except OSError:
        return  # not Linux, or not allowed: the present size is taken instead


def _peak() -> int:
    try:
        status = _STATUS.read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "")
    return int(line.split()[1]) * 1024 if line else 0
