"""A plan in the making: the rows as they would be after the changes so far, and how each came about."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from autoscaler.decide.pareto import RunnableVariant, VariantRanking
from autoscaler.decide.partitions import share_partitions
from autoscaler.decide.plan import InstanceChange
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits
from autoscaler.decide.worker_capacity import WorkerCapacity, emptiest
from schemas.rows.catalog import Variant
from schemas.rows.placement import InstanceRow
from schemas.status import InstanceState

_Key = tuple[str, str]


class PlacementBuilder:
    """What is placed where. A variant is placed if a worker that stays has it."""

    def __init__(
        self,
        variants: Mapping[str, Variant],
        ranking: VariantRanking,
        situation: ClusterSnapshot,
        limits: ScalingLimits,
    ) -> None:
        self.variants = variants
        self.ranking = ranking
        self.situation = situation
        self.limits = limits
        disturbed = {load.worker for load in situation.worker_loads if load.interfered}
        self.rooms = {
            w.name: WorkerCapacity(w, limits, disturbed=w.name in disturbed) for w in situation.workers if w.alive
        }
        self.rows: dict[_Key, InstanceRow] = {(row.variant, row.worker): row for row in situation.instances}
        self.original = frozenset(self.rows)
        self.changes: dict[_Key, InstanceChange] = {}
        self.unplaced: dict[str, str] = {}
        self.revision = 0
        """Grows with each change of what is where."""
        self._interfered = {
            (load.variant, load.worker)
            for load in situation.instance_loads
            if load.state is InstanceState.INTERFERED or load.worker in disturbed
        }
        for variant, worker in self.rows:
            candidate, room = ranking.candidates.get(variant), self.rooms.get(worker)
            if candidate and room and room.can_run(candidate):
                room.hosted[variant] = candidate

    # -- what is there -------------------------------------------------------------------------------------------------

    def hosts(self, variant: str) -> list[WorkerCapacity]:
        """The workers that stay and have it."""
        return [room for room in self.rooms.values() if room.open and variant in room.hosted]

    def is_placed(self, variant: str) -> bool:
        """Whether a worker that stays has it."""
        return any(room.open and variant in room.hosted for room in self.rooms.values())

    def is_served(self, variant: str) -> bool:
        """Whether a worker has it, be it one that drains."""
        return any(variant in room.hosted for room in self.rooms.values())

    def is_awaited(self, variant: str) -> bool:
        """Whether a worker that may only be starting has it."""
        return self.situation.observed_s < self.limits.leader_grace_s and any(key[0] == variant for key in self.rows)

    def is_interfered(self, variant: str, room: WorkerCapacity) -> bool:
        """Whether it is slower there than profiled, and not for its load."""
        return (variant, room.name) in self._interfered

    def is_fresh(self, variant: str) -> bool:
        """Whether a selector has asked for it just now."""
        return self.situation.demand_age_s.get(variant, float("inf")) <= self.limits.demand_s

    def placed_of(self, task: str) -> int:
        """Instances of a task on workers that stay."""
        rooms = (room for room in self.rooms.values() if room.open)
        return sum(candidate.variant.task == task for room in rooms for candidate in room.hosted.values())

    def living(self) -> dict[str, int]:
        """Instances on live workers, by task."""
        counts: defaultdict[str, int] = defaultdict(int)
        for room in self.rooms.values():
            for candidate in room.hosted.values():
                counts[candidate.variant.task] += 1
        return counts

    def by_idleness(self, room: WorkerCapacity) -> list[str]:
        """Who would leave first: the longest idle, but the last live instance of a task after all others."""
        living = self.living()

        def order(name: str) -> tuple[bool, float, int, str]:
            choice, task = self.ranking.best.get(name), room.hosted[name].variant.task
            return living[task] == 1, -self.situation.idle_of(name), -(choice.rank if choice else 10**9), name

        return sorted(room.hosted, key=order)

    # -- changes -------------------------------------------------------------------------------------------------------

    def place(self, candidate: RunnableVariant, reason: str, room: WorkerCapacity | None = None, **facts: Any) -> bool:
        """Put it on this worker, else on the emptiest that has the room."""
        room = room or emptiest(self.rooms.values(), candidate)
        if room is None:
            return False
        variant, worker = candidate.variant, room.name
        lost = sorted(key[1] for key in self.rows if key[0] == variant.name and self.is_lost(key))
        why = f"{reason}; {', '.join(lost)} no longer serves it" if lost else reason
        row = InstanceRow(
            variant=variant.name,
            worker=worker,
            partitions=() if self.is_placed(variant.name) else tuple(range(variant.partitions)),
            max_batch=variant.max_batch,
            reason=why,
        )
        action = "replace" if lost else "replicate" if self.is_placed(variant.name) else "place"
        inputs = self.facts(candidate, room) | facts
        self.rows[variant.name, worker] = row
        room.hosted[variant.name] = candidate
        self.revision += 1
        self.changes[variant.name, worker] = InstanceChange(
            action=action, variant=variant.name, worker=worker, reason=why, wanted=row, inputs=inputs
        )
        return True

    def is_lost(self, key: _Key) -> bool:
        """Whether the row is of a worker that is gone, leaves or cannot run it."""
        room = self.rooms.get(key[1])
        return room is None or not room.open or key[0] not in room.hosted

    def remove(self, variant: str, worker: str, action: str, reason: str, **facts: Any) -> None:
        """Delete the row."""
        del self.rows[variant, worker]
        self.revision += 1
        room, candidate = self.rooms.get(worker), self.ranking.candidates.get(variant)
        inputs = self.facts(candidate, room) | facts if room and candidate else facts
        if room is not None:
            room.hosted.pop(variant, None)
        if (variant, worker) not in self.original:
            self.changes.pop((variant, worker))  # it was only planned
            return
        self.changes[variant, worker] = InstanceChange(
            action=action, variant=variant, worker=worker, reason=reason, inputs=inputs
        )

    def share(self) -> None:
        """Each partition belongs to exactly one live instance of its variant."""
        held: defaultdict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for (variant, worker), row in self.rows.items():
            room = self.rooms.get(worker)
            if room is not None and variant in room.hosted:
                held[variant][worker] = row.partitions
        for variant, workers in held.items():
            shares = share_partitions(self.variants[variant].partitions, workers)
            for worker, partitions in shares.items():
                if partitions != workers[worker]:
                    why = "each partition belongs to exactly one live instance"
                    self._rewrite("share", variant, worker, why, partitions=partitions)

    def limit(self, variant: str, worker: str, max_batch: int, reason: str) -> None:
        """Allow batches of so many inputs."""
        self._rewrite("limit", variant, worker, reason, max_batch=max_batch)

    def _rewrite(self, action: str, variant: str, worker: str, reason: str, **columns: Any) -> None:
        row = msgspec.structs.replace(self.rows[variant, worker], **columns)
        self.rows[variant, worker] = row
        earlier = self.changes.get((variant, worker))
        self.changes[variant, worker] = InstanceChange(
            action=earlier.action if earlier else action,
            variant=variant,
            worker=worker,
            reason=earlier.reason if earlier else reason,
            wanted=row,
            inputs=(earlier.inputs if earlier else {}) | columns,
        )

    def facts(self, candidate: RunnableVariant, room: WorkerCapacity) -> dict[str, Any]:
        """What a person would ask for who doubts the decision."""
        idle_s = self.situation.idle_of(candidate.name)
        return {
            "accuracy": candidate.accuracy,
            "latency_s": candidate.latency_s,
            "cost_per_1000": candidate.cost,
            "memory_bytes": candidate.memory_bytes,
            "worker_free_bytes": room.free_bytes,
            "worker_instances": len(room.hosted),
            "worker_slots": room.worker.slots,
            "idle_s": None if idle_s == float("inf") else idle_s,
        }
