"""Messages between the Ray launcher and its driver process, as JSON, one per line."""

from collections.abc import Mapping

import msgspec

from autoscaler.launchers.base import LaunchedWorker


class ConnectRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to join the cluster as a driver."""

    address: str
    namespace: str


class ListRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to list the workers."""


class StartRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to start a worker where these resources are free."""

    worker: str
    environment: Mapping[str, str]
    log: str
    cores: int
    memory_bytes: int
    devices: Mapping[str, float]


class StopRequest(msgspec.Struct, frozen=True, tag=True):
    """Request to drain and stop a worker."""

    worker: str


DriverRequest = ConnectRequest | ListRequest | StartRequest | StopRequest


class DriverReply(msgspec.Struct, frozen=True):
    """Reply to a request."""

    launched: list[LaunchedWorker] = []
    """Workers, in the reply to a list request."""
    error: str = ""
    """Error of Ray; empty if the request succeeded."""
