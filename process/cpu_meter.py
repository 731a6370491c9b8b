"""CPU use of this machine by all processes.

Kafka, gateways and other processes compete for the same CPUs. In a cgroup with a quota (a container) the higher of the
machine's use and the quota's use counts: each can be exhausted while the other is not.
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
"""Minimum seconds between two readings: the kernel counts in ticks of 10 ms."""
_STAT: Final = Path("/proc/stat")


class CpuMeter:
    """Share of CPU time in use, smoothed exponentially with a time constant of half a second.

    Args:
        read_share: returns the machine's share in use since the previous call, 0..1.
        cgroup: folder of the cgroup of this process.
    """

    def __init__(self, read_share: Callable[[], float] | None = None, cgroup: Path = CGROUP) -> None:
        self._read_share = MachineShare() if read_share is None else read_share
        self._cgroup = cgroup
        self._quota = cpu_quota(cgroup)
        self.cpus = min(float(os.cpu_count() or 1), self._quota or float("inf"))
        """Number of CPUs that this process may use."""
        self._busy = 0.0
        self._read_share()
        self._used_s = _used_s(cgroup) if self._quota else 0.0
        self._at = time.monotonic()

    def busy(self) -> float:
        """Return the smoothed share in use, 0..1."""
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
    """Share of the machine's CPU time in use since the previous call, 0..1; 0 if `/proc/stat` cannot be read."""

    def __init__(self, stat: Path = _STAT) -> None:
        self._stat = stat
        self._busy, self._all = self._read()

    def __call__(self) -> float:
        """Read the counters and return the share since the previous call."""
        busy, everything = self._busy, self._all
        self._busy, self._all = self._read()
        elapsed = self._all - everything
        return min(max(self._busy - busy, 0) / elapsed, 1.0) if elapsed > 0 else 0.0

    def _read(self) -> tuple[int, int]:
        """Return the busy time and the total time of all CPUs, in kernel ticks."""
        try:
            with self._stat.open("rb") as stat:
                # user nice system idle iowait irq softirq steal; user and nice include the time of guests
                ticks = list(map(int, stat.readline().split()[1:9]))
            return sum(ticks) - sum(ticks[3:5]), sum(ticks)
        except (OSError, ValueError):
            return 0, 0


def _used_s(cgroup: Path) -> float:
    """Return the seconds of CPU time that a cgroup has used so far; 0 if unknown."""
    try:
        lines = (cgroup / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec ")) / 1e6
    except (OSError, ValueError, StopIteration):
        return 0.0
