"""Rows of changes of scale, and of what a person or the autoscaler wants it to be."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class DecisionKind(StrEnum):
    """What a decision changes."""

    INSTANCE = "instance"
    WORKER = "worker"
    CONTROL = "control"
    """A person pinned, unpinned, paused or resumed."""


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A change of scale, with what it was decided from. What does not apply is empty."""

    at: datetime
    kind: DecisionKind = DecisionKind.INSTANCE
    action: str
    variant: str = ""
    worker: str = ""
    hardware: str = ""
    reason: str
    policy: str = ""
    """What decided: `greedy` or `milp`; empty for what a person or a launcher did."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Of this change."""
    explanation: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Of the whole plan that it is part of."""


class PinKind(StrEnum):
    """What a person may bound."""

    TASK = "task"
    VARIANT = "variant"
    HARDWARE = "hardware"


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that a person set: of instances of a task or a variant, or of workers of a hardware."""

    kind: PinKind
    name: str
    minimum: int | None = None
    maximum: int | None = None
    pinned_by: str = ""
    pinned_at: datetime | None = None


class ScaleControl(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a person holds the scale as it is."""

    paused: bool
    changed_by: str
    changed_at: datetime


class WantedWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers of a hardware should run."""

    hardware: str
    count: int
    """Those that drain are not counted."""
    reason: str
    age_s: float = 0.0
    """Seconds since that was written."""
