"""Requests to unregister tasks, models and variants, with their plans and results."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.access import Principal

_DrainTime = Annotated[float, msgspec.Meta(ge=1, le=3600)]
_GraceTime = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class RegisteredNames(msgspec.Struct, frozen=True):
    """Names that are removed together: a task with its contents, architectures with their variants, or one variant."""

    task: str | None
    architectures: tuple[str, ...]
    variants: tuple[str, ...]


class RemovalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Preview of a removal."""

    name: str
    names: RegisteredNames
    topics: tuple[str, ...]
    """Topics of queries and results, that of results last."""
    files: tuple[str, ...]
    """SHA-256 of artifacts that no other variant needs."""
    uses: tuple[str, ...]
    """Reasons why it counts as used, as text; empty: it is not used."""
    begun: bool
    """True if its removal has already begun."""


class RemovalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request to unregister a name with everything that belongs to it."""

    name: str
    """Variant, model, version (`MODEL@2`), or task with everything that belongs to it."""
    force: bool = False
    """True to remove it even if it is used."""
    drain_timeout_s: _DrainTime = 120.0
    """Timeout in seconds for workers, and for selectors, to answer the queries they hold."""
    results_grace_s: _GraceTime = 10.0
    """Seconds for which the results of a task stay readable."""


class RemovalReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a removal."""

    plan: RemovalPlan
    moved: int
    """Number of unanswered queries of its variants that were moved back to the task's topic."""


class RemovalState(StrEnum):
    """State of a removal that was requested at a gateway."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """It ended before everything was removed; a repeated request continues it."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """Removal that was requested at a gateway, with its progress."""

    id: int
    name: str
    state: RemovalState
    done: int
    """Number of finished steps, out of `total`."""
    total: int
    step: str
    """Present step, as text."""
    error: str
    """Reason of the failure; empty otherwise."""
    report: RemovalReport | None
    """Result; null until the removal is done, or if another removal removed the name first."""
    asked_at: datetime


class RemovalRow(Removal, frozen=True, kw_only=True):
    """Stored removal."""

    request: RemovalRequest
    principal: Principal
    """Principal that requested it, with its rights at that time."""
    actor: str
    origin: str
    epoch: int
    """Number that each claim increments; writes with an earlier epoch are ignored."""
    attempts: int
    """Number of attempts that were begun and not released."""
    ended_at: datetime | None

    def told(self) -> Removal:
        """Return the part of the row that callers may see."""
        return msgspec.convert(self, Removal, from_attributes=True)
