"""Memory of this machine: its size and free part, and the return of freed memory to it.

In a cgroup with a limit (a container) the lower of the machine's memory and the limit counts: the kernel kills a
process that exceeds its limit, however much memory the machine has.
"""

import ctypes
from pathlib import Path
from typing import Final

import psutil

from process.cpus import CGROUP

_CACHES: Final = ("active_file", "inactive_file")
"""Counters of file caches in a cgroup; the kernel reclaims them on demand."""


def total_memory(cgroup: Path = CGROUP) -> int:
    """Return the total memory of this machine in bytes, or the limit of the cgroup if that is lower."""
    machine, limit = psutil.virtual_memory().total, _limit(cgroup)
    return machine if limit is None else min(machine, limit)


def free_memory(cgroup: Path = CGROUP) -> int:
    """Return the free part of that memory in bytes."""
    machine, limit = psutil.virtual_memory().available, _limit(cgroup)
    return machine if limit is None else min(machine, max(limit - _used(cgroup), 0))


def trim_memory() -> None:
    """Return freed memory to the system: glibc keeps it otherwise, so unloading a model would free nothing.

    Blocks for some milliseconds. Does nothing if the C library is not glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _limit(cgroup: Path) -> int | None:
    """Return the memory limit of a version 2 cgroup in bytes; None if it has none."""
    try:
        return int((cgroup / "memory.max").read_text())
    except (OSError, ValueError):  # no such file, or `max`
        return None


def _used(cgroup: Path) -> int:
    """Return the bytes that a cgroup uses, without file caches; 0 if unknown."""
    try:
        counters = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return int((cgroup / "memory.current").read_text()) - sum(int(counters[name]) for name in _CACHES)
    except (OSError, ValueError, KeyError):
        return 0
