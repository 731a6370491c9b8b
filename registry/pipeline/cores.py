"""The CPU cores that a measurement runs on, and the time for which its threads waited for one."""

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import psutil

from process.cpus import usable_cpus
from registry.pipeline.timing import Run

_THREADS: Final = Path("/proc/self/task")
_WATCH_S: Final = 0.1
"""Seconds for which it is watched how busy the cores are."""


@contextmanager
def pinned_to_quiet_cores(count: int) -> Generator[Callable[[], None]]:
    """Keep all threads of this process on the `count` cores that are least busy; yields what chooses them anew.

    As many cores as the model has threads, so that a thread is neither moved nor given more than it will have. Where
    the kernel cannot pin, nothing happens.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield lambda: None
        return
    allowed = usable_cpus()

    def choose() -> None:
        if count < len(allowed):
            _pin(_quietest(allowed)[:count])

    choose()
    try:
        yield choose
    finally:
        _pin(allowed)


def _quietest(cores: list[int]) -> list[int]:
    busy = psutil.cpu_percent(_WATCH_S, percpu=True)
    return sorted(cores, key=lambda core: busy[core] if core < len(busy) else 0.0)


def _pin(cores: list[int]) -> None:
    """Pin the threads there are; those that they start inherit it."""
    for thread in _threads():
        with suppress(OSError):  # it has just ended
            os.sched_setaffinity(thread, cores)


def _threads() -> list[int]:
    return [int(path.name) for path in _THREADS.iterdir()]


class RunObserver:
    """Observes runs of this process: their wall and CPU time, and the time that its threads waited for a core.

    Made when the threads that compute are there; a context manager.
    """

    def __init__(self, threads: int) -> None:
        self._share = threads
        self._files: list[int] = []
        for thread in _threads() if _THREADS.exists() else ():
            with suppress(OSError):  # it has just ended, or this kernel does not keep it
                self._files.append(os.open(_THREADS / str(thread) / "schedstat", os.O_RDONLY))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            os.close(file)

    def observe(self, compute: Callable[[], object]) -> Run:
        """Compute, and tell how it went."""
        waited, cpu_s, began = self._waited_s(), time.process_time(), time.perf_counter()
        compute()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        # Threads that compute nothing for it may have waited, too: what it computed was not lost.
        lost_s = min(self._waited_s() - waited, wall_s - cpu_s / self._share)
        return Run(wall_s, cpu_s, max(lost_s, 0.0))

    def _waited_s(self) -> float:
        """Seconds for which the threads were ready and had no core, each counted as its share of all that compute."""
        return sum(_waited_ns(file) for file in self._files) / 1e9 / self._share


def _waited_ns(file: int) -> int:
    try:
        return int(os.pread(file, 64, 0).split()[1])
    except (OSError, IndexError):  # the thread has ended
        return 0
