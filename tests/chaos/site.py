"""Processes of a running system, and signals to them."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Final

import psutil

from bench.core.system import SystemUnderTest
from infaas.up.state import read_state
from tests.processes import words_of

_FOUND_S: Final = 90.0
_LOOK_S: Final = 0.2
SERVICES: Final = {
    "selector": "selector",
    "worker": "workers",
    "gateway": "gateway",
    "autoscaler": "autoscaler",
    "jobs": "gateway.jobs",
    "registrar": "registry.service",
}
"""Kinds of service, with the module that runs each."""
KINDS: Final = (*SERVICES, "kafka", "postgres")
"""Kinds of process."""
_ENDED_S: Final = 10.0
_STOPPED_S: Final = 2.0
_POLL_S: Final = 0.01


class MissedTargetError(Exception):
    """Error: a fault did not hit the processes in its name."""


class Site:
    """Processes of one system on this machine, searched at each call, because processes are replaced."""

    def __init__(self, system: SystemUnderTest) -> None:
        self.system = system

    def find(self, kind: str) -> list[psutil.Process]:
        """Return the processes of a kind, by their command lines; for `kafka` and `postgres` without children."""
        if kind == "kafka":
            return [process for process in self._ours() if "kafka.Kafka" in words_of(process)]
        if kind == "postgres":
            return [process for process in self._ours() if words_of(process)[:1] and "postgres" in words_of(process)[0]]
        state = read_state(self.system.home)
        module = SERVICES[kind]
        pids = [service.pid for service in state.services.values() if service.module == module] if state else []
        found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        return [process for process in found if f"-m {module}" in " ".join(words_of(process))]

    async def wait_for(self, kind: str, count: int = 1) -> list[psutil.Process]:
        """Wait until `count` processes of a kind run. Returns them.

        Raises:
            TimeoutError: they do not start in time.
        """
        async with asyncio.timeout(_FOUND_S):
            while len(found := await asyncio.to_thread(self.find, kind)) < count:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(_LOOK_S)
        return found[:count]

    def memory_mib(self) -> dict[str, float]:
        """Return the resident memory in MiB by kind of process."""
        return {
            kind: sum(_of(process, lambda one: one.memory_info().rss) for process in self.find(kind)) / 2**20
            for kind in KINDS
        }

    def open_files(self) -> dict[str, int]:
        """Return the open file descriptors by kind of process."""
        return {kind: sum(_of(process, psutil.Process.num_fds) for process in self.find(kind)) for kind in KINDS}

    def _ours(self) -> Iterable[psutil.Process]:
        """Return the processes whose command line names the system's folder; Postgres's children do not."""
        home = str(self.system.home)
        return [p for p in psutil.process_iter() if any(home in word for word in words_of(p))]


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes; a process that has ended is ignored."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


async def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL processes, all at once, and wait until none runs.

    Raises:
        MissedTargetError: one had ended before, or still runs.
    """
    if ended := [process.pid for process in processes if not process.is_running()]:
        raise MissedTargetError(f"ended before SIGKILL: {ended}")
    send(processes, signal.SIGKILL)
    _gone, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=_ENDED_S)
    if alive:
        raise MissedTargetError(f"still running after SIGKILL: {[process.pid for process in alive]}")


async def wait_until_stopped(processes: Iterable[psutil.Process]) -> None:
    """Wait until SIGSTOP has stopped processes: one with many threads stops a moment after the signal.

    Raises:
        MissedTargetError: one does not stop.
    """
    waiting = list(processes)
    end = time.monotonic() + _STOPPED_S
    while waiting := [process for process in waiting if process.status() != psutil.STATUS_STOPPED]:
        if time.monotonic() > end:
            raise MissedTargetError(f"not stopped by SIGSTOP: {[process.pid for process in waiting]}")
        await asyncio.sleep(_POLL_S)


def with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes and all their descendants."""
    return [each for process in processes for each in (process, *process.children(recursive=True))]


def _of(process: psutil.Process, count: Callable[[psutil.Process], int]) -> int:
    """Return a count of a process; 0 if it has ended meanwhile."""
    try:
        return count(process)
    except psutil.Error:
        return 0
