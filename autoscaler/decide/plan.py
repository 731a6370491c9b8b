"""What a decision results in: the plan, and the targets of a solver."""

from typing import Any

import msgspec

from autoscaler.decide.snapshot import DecisionMemory
from schemas.rows.placement import InstanceRow


class InstanceChange(msgspec.Struct, frozen=True, kw_only=True):
    """Change of one instance: a row to write or to delete, and why."""

    action: str
    """One of `place`, `replicate`, `replace`, `evict`, `unload`, `remove`, `share` (partitions), `limit` (batches)."""
    variant: str
    worker: str
    reason: str
    wanted: InstanceRow | None = None
    """Row to write; None if the row is to be deleted."""
    inputs: dict[str, Any] = {}
    """Numbers that decided it, for a person who asks."""
    kind: str = "instance"


class WorkerCountChange(msgspec.Struct, frozen=True, kw_only=True):
    """New number of workers of a hardware type, those that drain not counted."""

    hardware: str
    count: int
    reason: str


class SolverTargets(msgspec.Struct, frozen=True, kw_only=True):
    """Targets that a solver found, to be followed until it finds others."""

    instances: dict[str, int] = {}
    """Number of instances by variant."""
    workers: dict[str, int] = {}
    """Number of workers by hardware."""
    reason: str = ""


class ScalePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Plan of what to change, in this order, and what could not be done."""

    changes: tuple[InstanceChange, ...] = ()
    unplaced: dict[str, str] = {}
    """Variants worth serving that have no place, and why."""
    workers: tuple[WorkerCountChange, ...] = ()
    """New numbers of workers, where they differ from those wanted so far."""
    drain: tuple[str, ...] = ()
    """Workers to give nothing new and to stop once they hold nothing."""
    partitions: dict[str, int] = {}
    """Number of partitions that topics should grow to, by variant."""
    memory: DecisionMemory = DecisionMemory()
    explanation: dict[str, Any] = {}
    """Explanation of what decided it, small and fit for JSON."""
