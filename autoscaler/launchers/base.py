"""Interface of launchers, which start, stop and list workers.

A worker is identified by its name, `<hardware>-<n>`, and a name has at most one process. Starting a running worker and
stopping an absent one change nothing. So repeated calls are harmless, be it by two autoscalers or by one that was
killed and does not know how far it came.

A launcher owns the workers that it starts. `running` lists all of them, no matter which autoscaler asked for them, so
the next leader takes them over. A worker registers itself in Postgres when it is up; the launcher only starts its
process.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from autoscaler.decide.snapshot import HardwareType
from schemas.errors import InfaasError


class LauncherError(InfaasError):
    """A launcher call failed for the reason in the message. It may succeed later."""


class LaunchState(StrEnum):
    """State of a worker's process."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"
    """The process does not start, or crashes repeatedly. It is not retried until `start` is called again."""


class LaunchedWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's process as known by the launcher."""

    worker: str
    hardware: str
    state: LaunchState
    reason: str = ""
    """End of its log if it failed."""


class Launcher(Protocol):
    """Starts and stops workers. Each call has its own deadline and raises only `LauncherError`."""

    @property
    def name(self) -> str:
        """Name in the setting `launcher`."""
        ...

    @property
    def hardware(self) -> Mapping[str, HardwareType]:
        """Types of workers that it can start, by name."""
        ...

    async def running(self) -> list[LaunchedWorker]:
        """List all workers that it has started and that have not ended, failed ones included."""
        ...

    async def start(self, hardware: str, worker: str) -> None:
        """Start a worker's process, without waiting until it is up."""
        ...

    async def stop(self, worker: str) -> None:
        """Begin the graceful stop of a worker, without waiting for its end."""
        ...
