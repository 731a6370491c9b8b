"""What a decision results in."""

from typing import Any

import msgspec

from autoscaler.decide.snapshot import DecisionMemory
from schemas.rows.placement import InstanceRow


class InstanceChange(msgspec.Struct, frozen=True, kw_only=True):
    """One row to write or to delete, and why."""

    action: str
    """`place`, `replicate`, `replace`, `evict`, `unload`, `remove`, `share` (partitions), `limit` (batches)."""
    variant: str
    worker: str
    reason: str
    wanted: InstanceRow | None = None
    """The row to write; None: the row is to be deleted."""
    inputs: dict[str, Any] = {}
    kind: str = "instance"


class WorkerCountChange(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers of a hardware type there should be, those that drain not counted."""

    hardware: str
    count: int
    reason: str


class SolverTargets(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a solver: what to aim at until the load leaves the range it was made for."""

    instances: dict[str, int] = {}
    """By variant."""
    workers: dict[str, int] = {}
    """By hardware type."""
    reason: str = ""


class ScalePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to change, in this order, and what could not be done."""

    changes: tuple[InstanceChange, ...] = ()
    unplaced: dict[str, str] = {}
    """Variants worth serving that have no place, and why."""
    workers: tuple[WorkerCountChange, ...] = ()
    """Only where the number differs from what is wanted so far."""
    drain: tuple[str, ...] = ()
    """Workers to give nothing new and to stop once they hold nothing."""
    partitions: dict[str, int] = {}
    """Variants whose topics should grow, and to how many partitions."""
    memory: DecisionMemory = DecisionMemory()
    explanation: dict[str, Any] = {}
    """What decided it, small and fit for JSON."""
