"""What the decision is made from, and what it results in."""

from typing import Any

import msgspec

from schemas.records import InstanceRow, WorkerRow


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How far the decision may go."""

    memory_share: float = 0.9
    """Share of a worker's memory that profiles may add up to; the rest is for queries in flight."""
    instances_per_slot: int = 16
    """Loaded variants a slot is shared by; those that are idle take no time of it."""
    keep_idle_s: float = 300.0
    """How long a dominated variant stays after its last use."""
    evict_idle_s: float = 10.0
    """How long a variant must have been idle to give way to one that is demanded."""
    demand_s: float = 10.0
    """How long a demand that found no room is tried again."""
    settle_s: float = 5.0
    """How long after its start the autoscaler takes nobody for dead: workers may be starting too."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed. Ages are seconds."""

    known: bool = True
    """False when the last reading failed. Unknown is not zero: the scale is held."""
    workers: tuple[WorkerRow, ...] = ()
    """`alive`: by heartbeat or status, and not about to leave."""
    instances: tuple[InstanceRow, ...] = ()
    demand_age_s: dict[str, float] = {}
    """By variant, since a selector last asked for it in vain."""
    idle_s: dict[str, float] = {}
    """By variant, since it last answered a query or was demanded."""
    observed_s: float = float("inf")
    """How long we have been watching: nothing can be known to be idle for longer."""

    def idle_of(self, variant: str) -> float:
        """Seconds since the variant was last known to be used or asked for."""
        used_s, demanded_s = self.idle_s.get(variant, self.observed_s), self.demand_age_s.get(variant, self.observed_s)
        return min(used_s, demanded_s, self.observed_s)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One row to write or to delete, and why."""

    action: str
    """`place`, `replace`, `share` (other partitions), `evict` or `remove`."""
    variant: str
    worker: str
    reason: str
    wanted: InstanceRow | None = None
    """The row to write; None: the row is to be deleted."""
    inputs: dict[str, Any] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to change, in this order, and what could not be done."""

    changes: tuple[Change, ...] = ()
    unplaced: dict[str, str] = {}
    """Variants worth serving that have no place, and why."""
