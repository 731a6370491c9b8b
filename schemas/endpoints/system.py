"""System endpoint of the admin API: a short report that shows if an administrator must act."""

from typing import Final

import msgspec

from schemas.endpoints.endpoint import Empty, Endpoint
from schemas.principal import Role


class SystemReport(msgspec.Struct, frozen=True, kw_only=True):
    """Contents and problems of the system."""

    version: str
    """Version of the process that answers."""
    problems: list[str]
    """Problems that a person should examine; empty: none."""
    paused: bool
    """True if a person has paused scaling."""
    tasks: int
    models: int
    """Number of models; every version counts."""
    variants: int
    """Number of variants that may serve queries."""
    workers: int
    """Number of workers that are alive and not draining."""
    workers_wanted: int | None
    """Number of workers that the autoscaler wants; null: no autoscaler starts workers."""
    instances: dict[str, int]
    """Number of instances by state."""
    jobs: int
    """Number of jobs that have not ended."""


SYSTEM: Final = Endpoint(
    name="system.status",
    method="GET",
    path="/v1/status",
    role=Role.ADMIN,
    request=Empty,
    result=SystemReport,
    summary="Show the status of the system and its problems.",
)
