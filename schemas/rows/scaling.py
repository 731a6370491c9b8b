"""Rows of scaling: decisions, pins, pause, and the wanted number of workers."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class DecisionKind(StrEnum):
    """Kind of object that a decision changes."""

    INSTANCE = "instance"
    WORKER = "worker"
    CONTROL = "control"
    """A person pinned, unpinned, paused or resumed."""


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    """Scaling decision with its inputs. A field that does not apply is empty."""

    at: datetime
    kind: DecisionKind = DecisionKind.INSTANCE
    action: str
    variant: str = ""
    worker: str = ""
    hardware: str = ""
    reason: str
    policy: str = ""
    """Optimizer that decided, `greedy` or `milp`; empty for an action of a person or a launcher."""
    inputs: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Inputs of this change."""
    explanation: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    """Inputs of the whole plan that the change is part of."""


class PinKind(StrEnum):
    """Kind of object whose number can be pinned."""

    TASK = "task"
    VARIANT = "variant"
    HARDWARE = "hardware"


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that a person has set for the instances of a task or variant, or for the workers of a hardware type."""

    kind: PinKind
    name: str
    minimum: int | None = None
    maximum: int | None = None
    pinned_by: str = ""
    pinned_at: datetime | None = None

    @property
    def bounds(self) -> str:
        """The bounds as text."""
        said = (("least", self.minimum), ("most", self.maximum))
        return ", ".join(f"at {word} {count}" for word, count in said if count is not None)


class ScaleControl(msgspec.Struct, frozen=True, kw_only=True):
    """State of the pause of scaling, and its last change."""

    paused: bool
    changed_by: str
    changed_at: datetime


class WantedWorkers(msgspec.Struct, frozen=True, kw_only=True):
    """Number of workers of a hardware type that shall run."""

    hardware: str
    count: int
    """Workers that shall run, not counting draining workers."""
    reason: str
    age_s: float = 0.0
    """Seconds since the row was written."""
