"""CPU cores of a measurement: pins its threads, and measures the time that they waited for a core."""

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
"""Seconds for which the load of the cores is observed."""


@contextmanager
def pinned_to_quiet_cores(count: int) -> Generator[Callable[[], None]]:
    """Pin all threads of this process to the `count` least busy cores; yield a function that chooses the cores again.

    There are as many cores as the model has threads, so no thread moves or gets more than it will have in service. If
    the kernel cannot pin threads, nothing happens.
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
    """Pin the present threads; threads that they start inherit it."""
    for thread in _threads():
        with suppress(OSError):  # the thread has just ended
            os.sched_setaffinity(thread, cores)


def _threads() -> list[int]:
    return [int(path.name) for path in _THREADS.iterdir()]


class RunObserver:
    """Observes runs of this process: wall time, CPU time, and the time that its threads waited for a core.

    A context manager. Create it after the threads that compute exist.
    """

    def __init__(self, threads: int) -> None:
        self._share = threads
        self._files: list[int] = []
        for thread in _threads() if _THREADS.exists() else ():
            with suppress(OSError):  # the thread has just ended, or the kernel lacks this file
                self._files.append(os.open(_THREADS / str(thread) / "schedstat", os.O_RDONLY))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            os.close(file)

    def observe(self, compute: Callable[[], object]) -> Run:
        """Call `compute` and return its times."""
        waited, cpu_s, began = self._waited_s(), time.process_time(), time.perf_counter()
        compute()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        # Threads that compute nothing may have waited, too: that is no loss.
        lost_s = min(self._waited_s() - waited, wall_s - cpu_s / self._share)
        return Run(wall_s, cpu_s, max(lost_s, 0.0))

    def _waited_s(self) -> float:
        """Return the seconds for which threads were ready and had no core, divided by the number of threads."""
        return sum(_waited_ns(file) for file in self._files) / 1e9 / self._share


def _waited_ns(file: int) -> int:
    try:
        return int(os.pread(file, 64, 0).split()[1])
    except (OSError, IndexError):  # the thread has ended
        return 0
