"""What a launcher is: something that can start, stop and list workers.

A worker is known by its name, `<hardware>-<n>`, and there is at most one process of a name: starting one that runs, or
stopping one that does not, changes nothing. So it does no harm when two autoscalers, or one that does not know how far
it came before it was killed, ask for the same thing.

A launcher owns what it starts: `running` lists all of it, whoever asked, so that the next leader adopts it. A worker
registers itself in Postgres when it is up; the launcher only has to bring its process to life.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from autoscaler.decide.snapshot import HardwareType
from schemas.errors import InfaasError


class LauncherError(InfaasError):
    """The launcher could not do what it was asked; the message says why. It may work later."""


class LaunchState(StrEnum):
    """State of a worker's process."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"
    """The process does not start, or ends again and again; nobody tries any more until it is started anew."""


class LaunchedWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's process as the launcher knows it."""

    worker: str
    hardware: str
    state: LaunchState
    reason: str = ""
    """End of its log, where it failed."""


class Launcher(Protocol):
    """Starts and stops workers. Every call has its own deadline and raises nothing but `LauncherError`."""

    @property
    def name(self) -> str:
        """Name by which the settings choose it."""
        ...

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """Types of workers that it can start, by name."""
        ...

    async def running(self) -> list[LaunchedWorker]:
        """List everything that it has started and that has not ended; also what failed."""
        ...

    async def start(self, hardware: str, worker: str) -> None:
        """Bring a worker to life, without waiting until it is up."""
        ...

    async def stop(self, worker: str) -> None:
        """Have a worker end in good order, without waiting until it has."""
        ...
