"""The processes of a running system, and what can be done to them."""

import asyncio
import os
import signal
from collections.abc import Iterable
from typing import Final

import psutil

from bench.core.system import SystemUnderTest
from infaas.supervisor.state import read_state

_FOUND_S: Final = 90.0
_LOOK_S: Final = 0.2
SERVICES: Final = {
    "selector": "selector",
    "worker": "workers",
    "gateway": "gateway",
    "autoscaler": "autoscaler",
    "jobs": "jobs",
    "registrar": "registrar",
}
"""Kinds of service, each with the module that runs it."""
_ENDED_S: Final = 10.0


class MissedTargetError(Exception):
    """A fault did not hit the processes that its name states."""


class Site:
    """The processes of one system on this machine, found anew whenever they are asked for: they come and go."""

    def __init__(self, system: SystemUnderTest) -> None:
        self.system = system

    def find(self, kind: str) -> list[psutil.Process]:
        """Processes of a kind, by their command lines; those of `kafka` and `postgres` without their children."""
        if kind == "kafka":
            return [process for process in self._ours() if "kafka.Kafka" in _words(process)]
        if kind == "postgres":
            return [process for process in self._ours() if _words(process)[:1] and "postgres" in _words(process)[0]]
        state = read_state(self.system.home)
        module = SERVICES[kind]
        pids = [service.pid for service in state.services.values() if service.module == module] if state else []
        found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        return [process for process in found if f"-m {module}" in " ".join(_words(process))]

    async def wait_for(self, kind: str, count: int = 1) -> list[psutil.Process]:
        """Wait until so many processes of a kind run; returns them.

        Raises:
            TimeoutError: they do not come.
        """
        async with asyncio.timeout(_FOUND_S):
            while len(found := await asyncio.to_thread(self.find, kind)) < count:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(_LOOK_S)
        return found[:count]

    def memory_mib(self) -> dict[str, float]:
        """Resident memory by kind of process, in MiB."""
        return {
            kind: sum(_rss(process) for process in self.find(kind)) / 2**20 for kind in (*SERVICES, "kafka", "postgres")
        }

    def _ours(self) -> Iterable[psutil.Process]:
        """Processes whose command line names our home; Postgres's children name it not."""
        home = str(self.system.home)
        return [p for p in psutil.process_iter() if any(home in word for word in _words(p))]


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to processes; one that is gone already is no error."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


async def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL processes, all at once, and wait until none of them runs.

    Raises:
        MissedTargetError: one of them ended before, or still runs.
    """
    if ended := [process.pid for process in processes if not process.is_running()]:
        raise MissedTargetError(f"ended before SIGKILL: {ended}")
    send(processes, signal.SIGKILL)
    _gone, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=_ENDED_S)
    if alive:
        raise MissedTargetError(f"still running after SIGKILL: {[process.pid for process in alive]}")


def check_stopped(processes: Iterable[psutil.Process]) -> None:
    """Check that SIGSTOP has stopped processes.

    Raises:
        MissedTargetError: one of them goes on.
    """
    states = {process.pid: process.status() for process in processes}
    if going := {pid: state for pid, state in states.items() if state != psutil.STATUS_STOPPED}:
        raise MissedTargetError(f"not stopped by SIGSTOP: {going}")


def with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes and all their descendants."""
    return [each for process in processes for each in (process, *process.children(recursive=True))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _rss(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0
