"""Rows of builds: the steps of registrations that workers execute."""

from typing import Any, Final

import msgspec

BUILDS_KEPT_S: Final = 86_400
"""Seconds for which a build and the files that it reads and writes are kept after its last request."""


class BuildRow(msgspec.Struct, frozen=True, kw_only=True):
    """Build with its state."""

    id: str
    """Hash of the step."""
    hardware: str
    step: dict[str, Any]
    """The step, as encoded by `registry.builds`."""
    asked_ms: int
    """Time of the last request by the database's clock, ms since the epoch."""
    epoch: int = 0
    """Number that each claim increments; writes with an earlier epoch are ignored."""
    attempts: int = 0
    worker: str = ""
    """Worker that executes it or has executed it; empty: none."""
    reason: str = ""
    """Reason why the last attempt without an outcome ended."""
    outcome: dict[str, Any] | None = None
    """Outcome of the step; None until it has ended."""
