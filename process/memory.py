"""How much memory this process may have; gives back what it does not use any more.

In a cgroup with a limit (a container), what counts is the lesser of the two: who takes more than the limit is ended,
however much the machine has.
"""

import ctypes
from pathlib import Path
from typing import Final

import psutil

from process.cpus import CGROUP

_CACHES: Final = ("active_file", "inactive_file")
"""Memory of a cgroup that is given back when it is wanted: what was read of files."""


def total_memory(cgroup: Path = CGROUP) -> int:
    """Bytes of memory of this machine, or of the cgroup where that may have less."""
    machine, limit = psutil.virtual_memory().total, _limit(cgroup)
    return machine if limit is None else min(machine, limit)


def free_memory(cgroup: Path = CGROUP) -> int:
    """Bytes of that memory which are free."""
    machine, limit = psutil.virtual_memory().available, _limit(cgroup)
    return machine if limit is None else min(machine, max(limit - _used(cgroup), 0))


def trim_memory() -> None:
    """Let the system have what was freed: glibc keeps it otherwise, and unloading a model would free nothing.

    Blocks for some milliseconds. Elsewhere than on glibc it does nothing.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _limit(cgroup: Path) -> int | None:
    """Bytes that a cgroup of version 2 may have; None where nothing says so."""
    try:
        return int((cgroup / "memory.max").read_text())
    except (OSError, ValueError):  # there is none, or it is `max`
        return None


def _used(cgroup: Path) -> int:
    """Bytes that a cgroup has and would not give back."""
    try:
        counters = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return int((cgroup / "memory.current").read_text()) - sum(int(counters[name]) for name in _CACHES)
    except (OSError, ValueError, KeyError):
        return 0
