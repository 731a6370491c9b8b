"""Rows of registrations through the admin API, and of what was uploaded for them."""

from datetime import datetime
from typing import Any

import msgspec


class NewRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """A registration that is asked for."""

    id: str
    kind: str
    name: str
    tenant: str
    """Tenant that registers it; empty: nobody's."""
    publisher: bool
    """Whether it is that tenant alone that registers, and no administrator."""
    asked_by: str
    origin: str
    request: dict[str, Any]
    """As `schemas.registrations` has it."""
    uploads: tuple[str, ...]
    """SHA-256 of the uploads that it needs."""


class ClaimedRegistration(msgspec.Struct, frozen=True, kw_only=True):
    """A registration that a registrar does."""

    id: str
    epoch: int
    """Grows with each claim, so that what an earlier one still writes is refused."""
    attempts: int
    crashes: int
    """Attempts that ended by themselves, and without an outcome."""
    reason: str
    """How the last of these ended."""


class RegistrationToDo(msgspec.Struct, frozen=True, kw_only=True):
    """What a registrar needs to know of a registration."""

    id: str
    kind: str
    tenant: str
    publisher: bool
    asked_by: str
    origin: str
    request: dict[str, Any]


class RegistrationProgress(msgspec.Struct, frozen=True):
    """How far a registration is, as its process says."""

    done: int = 0
    total: int = 0
    doing: str = ""
    notes: tuple[str, ...] = ()


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was uploaded, or is being uploaded."""

    sha256: str
    bytes: int
    arrived: bool
    """Whether all of it has come."""
    created_at: datetime
    used_at: datetime
    """When it was uploaded, or last named by a registration: it is swept away some time after that."""
