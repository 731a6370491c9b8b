"""How a system gets on, over the admin API: enough to see whether somebody has to look."""

from typing import Final

import msgspec

from schemas.endpoints.endpoint import Endpoint, Nothing
from schemas.principal import Role


class SystemReport(msgspec.Struct, frozen=True, kw_only=True):
    """What there is, and what is wrong with it."""

    version: str
    """That of whoever answers."""
    problems: list[str]
    """What a person should look at; empty while all is well."""
    paused: bool
    """Whether a person holds the scale."""
    tasks: int
    models: int
    """Versions count each."""
    variants: int
    """Those that may serve."""
    workers: int
    """Those that live and do not drain."""
    workers_wanted: int | None
    """None where nobody starts workers, so nobody says how many there should be."""
    instances: dict[str, int]
    """Number in each state."""
    jobs: int
    """Those that have not ended."""


SYSTEM: Final = Endpoint(
    name="system.status",
    method="GET",
    path="/v1/status",
    role=Role.ADMIN,
    request=Nothing,
    result=SystemReport,
    summary="How the system gets on: what there is of it, and what a person should look at.",
)
