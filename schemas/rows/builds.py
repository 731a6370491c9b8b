"""Rows of builds: the steps of registrations that workers do."""

from typing import Any, Final

import msgspec

BUILDS_KEPT_S: Final = 86_400
"""Seconds for which a request for a build is kept, and what its step needs and leaves."""


class BuildRow(msgspec.Struct, frozen=True, kw_only=True):
    """A build, and how far it is."""

    id: str
    """Hash of what is to be done."""
    hardware: str
    step: dict[str, Any]
    """What is to be done, as `registry.builds` encodes it."""
    asked_ms: int
    """When it was last asked for, by the database's clock, ms since the epoch."""
    attempts: int = 0
    worker: str = ""
    """Who does it, or has done it; empty while nobody does."""
    reason: str = ""
    """How the last attempt ended that left no outcome."""
    outcome: dict[str, Any] | None = None
    """How it ended; None until then."""
