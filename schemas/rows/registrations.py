"""Rows of registrations through the admin API, of the files uploaded for them, and of builds, which workers execute."""

from datetime import datetime
from typing import Any, Final

import msgspec


class NewRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """Registration to store."""

    id: str
    kind: str
    name: str
    tenant: str
    """Tenant that registers it; empty: none."""
    publisher: bool
    """True if the caller acts for that tenant and is not an administrator."""
    asked_by: str
    origin: str
    request: dict[str, Any]
    """Request in the form of `schemas.registrations`."""
    uploads: tuple[str, ...]
    """SHA-256 of the uploads that it needs."""


class ClaimedRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """Registration that a registrar has claimed."""

    id: str
    epoch: int
    """Number that each claim increments; writes with an earlier epoch are ignored."""
    attempts: int
    crashes: int
    """Attempts that ended without an outcome, e.g. by a crash."""
    reason: str
    """Reason of the last such end."""


class RegistrationToDo(msgspec.Struct, frozen=True, kw_only=True):
    """Data with which a registrar executes a registration."""

    id: str
    kind: str
    tenant: str
    publisher: bool
    asked_by: str
    origin: str
    request: dict[str, Any]


class RegistrationProgress(msgspec.Struct, frozen=True):
    """Progress of a registration, as its process reports it."""

    done: int = 0
    total: int = 0
    doing: str = ""
    notes: tuple[str, ...] = ()


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """File that has been uploaded, or is being uploaded."""

    sha256: str
    bytes: int
    arrived: bool
    """True if the upload is complete."""
    created_at: datetime
    used_at: datetime
    """Time of the upload, or of the last registration that named it. The file is deleted some time later."""


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
