"""What the launcher and the process that speaks to Ray say to one another, as JSON, one message a line."""

from collections.abc import Mapping

import msgspec

from autoscaler.launchers.base import LaunchedWorker


class ConnectRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to join the cluster as a driver."""

    address: str
    namespace: str


class ListRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to list the workers that run."""


class StartRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to start a worker where these resources are free."""

    worker: str
    environment: Mapping[str, str]
    log: str
    cores: int
    memory_bytes: int
    devices: Mapping[str, float]


class StopRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to have a worker end in good order."""

    worker: str


DriverRequest = ConnectRequest | ListRequest | StartRequest | StopRequest


class DriverReply(msgspec.Struct, frozen=True):
    """Reply to a request."""

    launched: list[LaunchedWorker] = []
    """Workers that run, if that was asked."""
    error: str = ""
    """What Ray said against it; empty if it was done."""
