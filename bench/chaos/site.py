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
SERVICES: Final = ("selector", "worker", "gateway", "autoscaler", "jobs")


class Site:
    """The processes of one system on this machine, found anew whenever they are asked for: they come and go."""

    def __init__(self, system: SystemUnderTest) -> None:
        self.system = system

    def find(self, kind: str) -> list[psutil.Process]:
        """Processes of a kind, those of the kinds `kafka` and `postgres` without their children."""
        if kind == "kafka":
            return [process for process in self._ours() if "kafka.Kafka" in _words(process)]
        if kind == "postgres":
            return [process for process in self._ours() if _words(process)[:1] and "postgres" in _words(process)[0]]
        state = read_state(self.system.home)
        found = [(name, service.pid) for name, service in state.services.items()] if state else []
        return [psutil.Process(pid) for name, pid in found if _kind(name) == kind and psutil.pid_exists(pid)]

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


def with_children(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes and all their descendants."""
    return [each for process in processes for each in (process, *process.children(recursive=True))]


def _kind(name: str) -> str:
    return next((kind for kind in SERVICES if name.startswith(kind)), "worker")


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
