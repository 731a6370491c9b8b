"""Results of a decision: the plan, and a solver's targets."""

from typing import Any

import msgspec

from autoscaler.decide.snapshot import DecisionMemory
from schemas.rows.cluster import InstanceRow, WantedWorkers


class InstanceChange(msgspec.Struct, frozen=True, kw_only=True):
    """Change of one instance: a row to write or to delete, with the reason."""

    action: str
    """One of `place`, `replicate`, `replace`, `evict`, `unload`, `remove`, `share` (partitions), `limit` (batches)."""
    variant: str
    worker: str
    reason: str
    wanted: InstanceRow | None = None
    """Row to write; None to delete the row."""
    inputs: dict[str, Any] = {}
    """Numbers behind the change, for operators."""


class SolverTargets(msgspec.Struct, frozen=True, kw_only=True):
    """Targets of a solver, valid until the next ones."""

    instances: dict[str, int] = {}
    """Number of instances by variant."""
    workers: dict[str, int] = {}
    """Number of workers by hardware."""
    reason: str = ""


class ScalePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Plan of changes, in the order of execution, and of variants without a place."""

    changes: tuple[InstanceChange, ...] = ()
    unplaced: dict[str, str] = {}
    """Reasons by variant for variants that are worth serving but have no place."""
    workers: tuple[WantedWorkers, ...] = ()
    """New numbers of workers, where they differ from the wanted ones."""
    drain: tuple[str, ...] = ()
    """Workers to drain: they get nothing new and stop when they host nothing."""
    partitions: dict[str, int] = {}
    """New numbers of partitions of topics, by variant."""
    memory: DecisionMemory = DecisionMemory()
    explanation: dict[str, Any] = {}
    """Numbers behind the decision, small and serializable as JSON."""
