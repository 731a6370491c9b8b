"""What is to be unregistered, and what went."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from schemas.principal import Principal

_DrainTime = Annotated[float, msgspec.Meta(ge=1, le=3600)]
_GraceTime = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class RegisteredNames(msgspec.Struct, frozen=True):
    """Names of what goes together: a task with all of it, an architecture with its variants, or one variant."""

    task: str | None
    architectures: tuple[str, ...]
    variants: tuple[str, ...]


class RemovalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with a name."""

    name: str
    names: RegisteredNames
    topics: tuple[str, ...]
    """Topics of queries and results, that of results last."""
    files: tuple[str, ...]
    """SHA-256 of artifacts that nothing else needs."""
    uses: tuple[str, ...]
    """Why it counts as used, in words; none: it is not."""
    begun: bool
    """Whether its removal was begun already."""


class RemovalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants to be gone."""

    name: str
    """A variant, a model, a version (`MODEL@2`) or a task with all of it."""
    force: bool = False
    """Whether it goes though it is used."""
    drain_timeout_s: _DrainTime = 120.0
    """Longest wait for workers, and for selectors, to answer what they have."""
    results_grace_s: _GraceTime = 10.0
    """Seconds for which the results of a task can still be read."""


class RemovalReport(msgspec.Struct, frozen=True, kw_only=True):
    """What has gone."""

    plan: RemovalPlan
    moved: int
    """Number of queries that waited for its variants, and went back to the task."""


class RemovalState(StrEnum):
    """How far a removal is that was asked of a gateway."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """It ended without having removed everything: asked again, it goes on."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """A removal that was asked of a gateway, and how far it is."""

    id: int
    name: str
    state: RemovalState
    done: int
    """Steps that are finished, of `total`."""
    total: int
    step: str
    """What it does now, in words."""
    error: str
    """Why it failed; empty otherwise."""
    report: RemovalReport | None
    """What has gone; None until it is done, and where somebody else removed it meanwhile."""
    asked_at: datetime


class RemovalRow(Removal, frozen=True, kw_only=True):
    """A removal as it is kept."""

    request: RemovalRequest
    principal: Principal
    """Who asked, with the rights that they had."""
    actor: str
    origin: str
    attempts: int
    """Times it was begun and not given back."""
    beat_at: datetime | None
    ended_at: datetime | None

    def told(self) -> Removal:
        """What whoever asks of it is told."""
        return msgspec.convert(self, Removal, from_attributes=True)
