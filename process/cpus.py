"""Which CPU cores this process may use, and how many of them at once.

In a cgroup with a quota (a container) what counts is the lesser of the two: whoever computes on more cores than the
quota has is stopped for the rest of each period, in the middle of a batch.
"""

import os
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")


def usable_cpus() -> list[int]:
    """Numbers of the cores that this process may run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Number of whole cores that this process may compute on at once, at least 1."""
    cores, quota = len(usable_cpus()), cpu_quota(cgroup)
    return min(cores, max(int(quota), 1)) if quota else cores


def cpu_quota(cgroup: Path = CGROUP) -> float:
    """CPUs that a cgroup of version 2 may use; 0 where nothing says so."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return 0.0
