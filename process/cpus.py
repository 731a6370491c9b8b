"""The CPU cores that this process may use, and the number of them at once.

In a cgroup with a quota (a container) the lower of the two limits counts: the kernel throttles a process that exceeds
its quota for the rest of each period, even in the middle of a batch.
"""

import os
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")


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
