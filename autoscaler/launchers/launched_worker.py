"""Processes of workers, as a launcher lists them."""

from enum import StrEnum

import msgspec


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
