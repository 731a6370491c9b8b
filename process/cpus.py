"""CPUs: the cores that this process may use, the placement and priority of its threads, and the use of the machine.

In a cgroup with a quota (a container) the lower of the two limits counts: the kernel throttles a process that exceeds
its quota for the rest of each period, even in the middle of a batch. The machine's use counts, too, since Kafka,
gateways and other processes compete for the same CPUs: each can be exhausted while the other is not.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection
from math import exp
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
BEHIND_SERVICES: Final = 10
"""Nice value of work that waits for services: a tenth of a core beside one of them. At 19 it would be 1.4 %, and beside
a dozen busy processes a registration of seconds would take hours.
"""
_MEMORY_S: Final = 0.5
_LEAST_S: Final = 0.09
"""Minimum seconds between two readings: the kernel counts in ticks of 10 ms."""
_STAT: Final = Path("/proc/stat")
_AUTOGROUP: Final = Path("/proc/self/autogroup")
_ATTEMPTS: Final = 5
_RETRY_S: Final = 0.1


def usable_cpus() -> list[int]:
    """Return the numbers of the cores that this process may run on, in ascending order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Return the number of whole cores that this process may compute on at once, at least 1."""
    cores, quota = len(usable_cpus()), cpu_quota(cgroup)
    return min(cores, max(int(quota), 1)) if quota else cores


def cpu_quota(cgroup: Path = CGROUP) -> float:
    """Return the CPU quota of a version 2 cgroup, in CPUs; 0 if it has none."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return 0.0


def pin_thread(cpus: Collection[int]) -> None:
    """Pin the calling thread, and threads it starts later, to `cpus`; do nothing if `cpus` is empty. Linux only."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def lower_priority() -> None:
    """Lower the priority of the calling thread for good. Linux only; elsewhere it does nothing. It never raises."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND_SERVICES)


def lower_session_priority(nice: int) -> None:
    """Lower the priority of a process that leads a session, with all its threads and children, for good. Never raises.

    Where the kernel groups processes by session (autogroups, sched(7)), a nice value counts within a session only, and
    the session has one of its own. So a process that shall yield to those of other sessions needs both.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PGRP, 0, nice)  # each thread has a nice value, and a runtime may have started some
    lower_session(nice)


def lower_session(nice: int) -> None:
    """Lower the priority of the session of this process for good. It never raises."""
    for _ in range(_ATTEMPTS):
        try:
            _AUTOGROUP.write_text(str(nice))
        except BlockingIOError:  # the kernel accepts one such change a tenth of a second from unprivileged users
            time.sleep(_RETRY_S)
        except OSError:
            return  # the kernel has no such groups
        else:
            return


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
