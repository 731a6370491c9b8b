"""How much of this machine's CPU time is in use, by whomever: what a process cannot see from what it does itself.

Kafka, a gateway and whatever else runs beside it take of the same CPUs. In a cgroup with a quota (a container), what
counts is the fuller of the two: a machine may be full though the quota is not used up, and the other way round.
"""

import os
import time
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Final

from process.cpus import CGROUP, cpu_quota

_MEMORY_S: Final = 0.5
_LEAST_S: Final = 0.09
"""Seconds between two readings: the kernel counts in hundredths."""
_STAT: Final = Path("/proc/stat")


class CpuMeter:
    """Share of CPU time in use, smoothed over half a second.

    Args:
        read_share: share in use since it was last called, 0..1, of the machine.
        cgroup: folder of this process's cgroup.
    """

    def __init__(self, read_share: Callable[[], float] | None = None, cgroup: Path = CGROUP) -> None:
        self._read_share = MachineShare() if read_share is None else read_share
        self._cgroup = cgroup
        self._quota = cpu_quota(cgroup)
        self.cpus = min(float(os.cpu_count() or 1), self._quota or float("inf"))
        """Number of CPUs that may be used."""
        self._busy = 0.0
        self._read_share()
        self._used_s = _used_s(cgroup) if self._quota else 0.0
        self._at = time.monotonic()

    def busy(self) -> float:
        """The share in use now, 0..1."""
        now = time.monotonic()
        elapsed_s = now - self._at
        if elapsed_s >= _LEAST_S:
            self._at = now
            share = max(self._read_share(), self._quota_share(elapsed_s))
            self._busy += (1 - exp(-elapsed_s / _MEMORY_S)) * (min(share, 1.0) - self._busy)
        return self._busy

    def _quota_share(self, elapsed_s: float) -> float:
        if not self._quota:
            return 0.0
        before_s, self._used_s = self._used_s, _used_s(self._cgroup)
        return max(self._used_s - before_s, 0.0) / (elapsed_s * self._quota)


class MachineShare:
    """Share of the machine's CPU time in use since it was last called, 0..1; 0 where no `/proc/stat` says it."""

    def __init__(self, stat: Path = _STAT) -> None:
        self._stat = stat
        self._busy, self._all = self._read()

    def __call__(self) -> float:
        """Read it, and return the share."""
        busy, everything = self._busy, self._all
        self._busy, self._all = self._read()
        elapsed = self._all - everything
        return min(max(self._busy - busy, 0) / elapsed, 1.0) if elapsed > 0 else 0.0

    def _read(self) -> tuple[int, int]:
        """Time in use and all time, of all CPUs, in the kernel's ticks."""
        try:
            with self._stat.open("rb") as stat:
                # user nice system idle iowait irq softirq steal; what guests use is in the first two already
                ticks = list(map(int, stat.readline().split()[1:9]))
            return sum(ticks) - sum(ticks[3:5]), sum(ticks)
        except (OSError, ValueError):
            return 0, 0


def _used_s(cgroup: Path) -> float:
    """Seconds of CPU that a cgroup has used so far."""
    try:
        lines = (cgroup / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec ")) / 1e6
    except (OSError, ValueError, StopIteration):
        return 0.0
