"""Rows of changes of scale, and of the scale that people and the autoscaler want."""

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
    """The optimizer that decided, `greedy` or `milp`; empty for what a person or a launcher did."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """What this change was made from."""
    explanation: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """What the whole plan was made from that the change is part of."""


class PinKind(StrEnum):
    """Kind of thing whose number a person may bound."""

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

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        said = (("least", self.minimum), ("most", self.maximum))
        return ", ".join(f"at {word} {count}" for word, count in said if count is not None)


class ScaleControl(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a person has paused the scale, and who changed that last."""

    paused: bool
    changed_by: str
    changed_at: datetime


class WantedWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """Number of workers of a hardware type that should run."""

    hardware: str
    count: int
    """Workers that should run, those that drain not counted."""
    reason: str
    age_s: float = 0.0
    """Seconds since the row was written."""
