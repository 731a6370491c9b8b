"""Builder of a placement: the instance rows with all changes so far, and a reason for each change."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec

from autoscaler.decide.pareto import RunnableVariant, VariantRanking
from autoscaler.decide.plan import InstanceChange
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits
from autoscaler.decide.worker_capacity import WorkerCapacity, WorkerOrder
from schemas.rows.catalog import Variant
from schemas.rows.cluster import InstanceRow
from schemas.status import SERVING, InstanceState

_Key = tuple[str, str]
_PLACING_S: Final = 0.3
"""Seconds from a demand to the first answer, without the load itself."""


class PlacementBuilder:
    """Builder of a placement. A variant counts as placed if a worker hosts it that neither drains nor is `leaving`."""

    def __init__(
        self,
        variants: Mapping[str, Variant],
        ranking: VariantRanking,
        snapshot: ClusterSnapshot,
        limits: ScalingLimits,
        leaving: Collection[str] = (),
    ) -> None:
        self.variants = variants
        self.ranking = ranking
        self.snapshot = snapshot
        self.limits = limits
        disturbed = {load.worker for load in snapshot.worker_loads if load.interfered}
        failed = _failed_by_worker(snapshot.instances)
        self.order = WorkerOrder()
        self.capacities = {
            w.name: WorkerCapacity(
                w, limits, self.order.changed, number=number, schedulable=w.name not in leaving,
                disturbed=w.name in disturbed, failed=failed.get(w.name, frozenset()),
            )
            for number, w in enumerate(snapshot.workers)
            if w.alive
        }  # fmt: skip
        self.order.changed.update(self.capacities.values())
        self.rows: dict[_Key, InstanceRow] = {(row.variant, row.worker): row for row in snapshot.instances}
        self.original = frozenset(self.rows)
        self.changes: dict[_Key, InstanceChange] = {}
        self.unplaced: dict[str, str] = {}
        self.moved: set[str] = set()
        """Variants that gained or lost an instance; the reader clears it."""
        self._interfered = {
            (load.variant, load.worker)
            for load in snapshot.instance_loads
            if load.state is InstanceState.INTERFERED or load.worker in disturbed
        }
        self._row_workers: defaultdict[str, set[str]] = defaultdict(set)
        self._hosts: defaultdict[str, dict[str, WorkerCapacity]] = defaultdict(dict)
        self._placed: Counter[str] = Counter()
        """Instances on workers that stay, by task."""
        self._live: Counter[str] = Counter()
        """Instances on live workers, by task."""
        for variant, worker in self.rows:
            self._row_workers[variant].add(worker)
            candidate, capacity = ranking.candidates.get(variant), self.capacities.get(worker)
            if candidate and capacity and capacity.can_run(candidate):
                self._host(candidate, capacity)

    # -- what is there -------------------------------------------------------------------------------------------------

    def all_hosts(self, variant: str) -> list[WorkerCapacity]:
        """Return the workers that host the variant, draining ones included."""
        return sorted(self._hosts[variant].values(), key=lambda capacity: capacity.number)

    def hosts(self, variant: str) -> list[WorkerCapacity]:
        """Return the workers that host the variant and stay."""
        return [capacity for capacity in self.all_hosts(variant) if capacity.schedulable]

    def host_count(self, variant: str) -> int:
        """Return the number of workers that host the variant and stay."""
        return sum(capacity.schedulable for capacity in self._hosts[variant].values())

    def is_placed(self, variant: str) -> bool:
        """Return true if a worker that stays hosts the variant."""
        return any(capacity.schedulable for capacity in self._hosts[variant].values())

    def is_served(self, variant: str) -> bool:
        """Return true if a worker hosts the variant, draining or not."""
        return bool(self._hosts[variant])

    def is_awaited(self, variant: str) -> bool:
        """Return true if the variant has a row whose worker may still be starting, shortly after the leader's start."""
        return self.snapshot.observed_s < self.limits.leader_grace_s and bool(self._row_workers[variant])

    def is_remembered(self, variant: str, worker: str) -> bool:
        """Return true if the worker stays and failed to load the variant; its row prevents another try there."""
        capacity = self.capacities.get(worker)
        return capacity is not None and capacity.schedulable and variant in capacity.failed

    def is_interfered(self, variant: str, capacity: WorkerCapacity) -> bool:
        """Return true if the variant is slower there than profiled for another reason than its load."""
        return (variant, capacity.name) in self._interfered

    def is_loaded(self, variant: str, capacity: WorkerCapacity) -> bool:
        """Return true if the worker has loaded the variant that it hosts."""
        return self.rows[variant, capacity.name].state in SERVING

    def is_demanded(self, variant: str) -> bool:
        """Return true if there is a recent demand for the variant."""
        return self.snapshot.demand_age_s.get(variant, float("inf")) <= self.limits.demand_s

    def placed_count(self, task: str) -> int:
        """Return the number of instances of a task on workers that stay."""
        return self._placed[task]

    def eviction_order(self, capacity: WorkerCapacity) -> list[str]:
        """Return the hosted variants in order of eviction: lowest cost of a miss per byte first, then the longest idle.

        A task's last live instance comes after all others.
        """

        def order(name: str) -> tuple[bool, float, float, int, str]:
            choice, candidate = self.ranking.best.get(name), capacity.hosted[name]
            rank, idle_s = choice.rank if choice else 10**9, self.snapshot.idle_of(name)
            cost = self.eviction_cost(candidate) / max(candidate.memory_bytes, 1)
            return self._live[candidate.variant.task] == 1, cost, -idle_s, -rank, name

        return sorted(capacity.hosted, key=order)

    def eviction_cost(self, candidate: RunnableVariant, rate: float = 0.0) -> float:
        """Return the cost of a miss: seconds of waiting per second, as each use would wait for a load.

        Args:
            candidate: the variant.
            rate: expected uses a second, if higher than observed.
        """
        return max(self.snapshot.use_rates.get(candidate.name, 0.0), rate) * (_PLACING_S + candidate.load_s)

    # -- changes -------------------------------------------------------------------------------------------------------

    def place(
        self, candidate: RunnableVariant, reason: str, capacity: WorkerCapacity | None = None, **facts: Any
    ) -> bool:
        """Place the candidate on the given or the least loaded worker with room; return false if there is none."""
        capacity = capacity or self.order.least_loaded(candidate)
        if capacity is None:
            return False
        variant, worker = candidate.variant, capacity.name
        lost = sorted(name for name in self._row_workers[variant.name] if self.is_lost((variant.name, name)))
        why = f"{reason}; {', '.join(lost)} no longer serves it" if lost else reason
        row = InstanceRow(
            variant=variant.name,
            worker=worker,
            partitions=() if self.is_placed(variant.name) else tuple(range(variant.partitions)),
            max_batch=variant.max_batch,
            reason=why,
        )
        action = "replace" if lost else "replicate" if self.is_placed(variant.name) else "place"
        inputs = self.explain(candidate, capacity) | facts
        self.rows[variant.name, worker] = row
        self._row_workers[variant.name].add(worker)
        self._host(candidate, capacity)
        self.changes[variant.name, worker] = InstanceChange(
            action=action, variant=variant.name, worker=worker, reason=why, wanted=row, inputs=inputs
        )
        return True

    def is_lost(self, key: _Key) -> bool:
        """Return true if the row's worker is dead, leaving or unable to run the variant."""
        capacity = self.capacities.get(key[1])
        return capacity is None or not capacity.schedulable or key[0] not in capacity.hosted

    def remove(self, variant: str, worker: str, action: str, reason: str, **facts: Any) -> None:
        """Delete the row of an instance."""
        del self.rows[variant, worker]
        self._row_workers[variant].discard(worker)
        capacity, candidate = self.capacities.get(worker), self.ranking.candidates.get(variant)
        inputs = self.explain(candidate, capacity) | facts if capacity and candidate else facts
        if capacity is not None:
            self._release(variant, capacity)
        if (variant, worker) not in self.original:
            self.changes.pop((variant, worker))  # planned in this decision and never written
            return
        self.changes[variant, worker] = InstanceChange(
            action=action, variant=variant, worker=worker, reason=reason, inputs=inputs
        )

    def _host(self, candidate: RunnableVariant, capacity: WorkerCapacity) -> None:
        capacity.host(candidate)
        self._hosts[candidate.name][capacity.name] = capacity
        self._count(candidate, capacity, 1)

    def _release(self, variant: str, capacity: WorkerCapacity) -> None:
        candidate = capacity.release(variant)
        if candidate is not None:
            del self._hosts[variant][capacity.name]
            self._count(candidate, capacity, -1)

    def _count(self, candidate: RunnableVariant, capacity: WorkerCapacity, by: int) -> None:
        self.moved.add(candidate.name)
        self._live[candidate.variant.task] += by
        if capacity.schedulable:
            self._placed[candidate.variant.task] += by

    def assign_partitions(self) -> None:
        """Give each partition to exactly one live instance of its variant; instances that failed to load get none."""
        held: defaultdict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        for (variant, worker), row in self.rows.items():
            capacity = self.capacities.get(worker)
            if capacity is not None and variant in capacity.hosted:
                held[variant][worker] = row.partitions
        for variant, workers in held.items():
            shares = share_partitions(self.variants[variant].partitions, workers)
            for worker, partitions in shares.items():
                if partitions != workers[worker]:
                    why = "each partition belongs to exactly one live instance"
                    self._rewrite("share", variant, worker, why, partitions=partitions)
        for (variant, worker), row in list(self.rows.items()):
            if row.partitions and variant in held and self.is_remembered(variant, worker):
                self._rewrite("share", variant, worker, "the partition moves to another worker", partitions=())

    def limit_batch(self, variant: str, worker: str, max_batch: int, reason: str) -> None:
        """Limit the batches of an instance to `max_batch` inputs."""
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

    def explain(self, candidate: RunnableVariant, capacity: WorkerCapacity) -> dict[str, Any]:
        """Return the main numbers behind a change, for operators."""
        idle_s = self.snapshot.idle_of(candidate.name)
        return {
            "accuracy": candidate.accuracy,
            "latency_s": candidate.latency_s,
            "cost_per_1000": candidate.cost,
            "memory_bytes": candidate.memory_bytes,
            "worker_free_bytes": capacity.free_bytes,
            "worker_instances": len(capacity.hosted),
            "worker_slots": capacity.worker.slots,
            "idle_s": None if idle_s == float("inf") else idle_s,
        }


def share_partitions(count: int, held: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Assign the partitions 0..count-1 to the workers in `held`, which maps workers to their present partitions.

    Each partition has one owner, and few partitions move.
    A complete assignment without overlaps is kept even if it is uneven, because selectors choose the replica first and
    one of its partitions then. But no worker is left without a partition while another has several.
    """
    complete = sorted(p for partitions in held.values() for p in partitions) == list(range(count))
    if complete and sum(map(bool, held.values())) >= min(count, len(held)):
        return dict(held)
    shares: dict[str, list[int]] = {}
    free = set(range(count))
    # The worker with the most partitions gets the larger quota, which avoids needless moves.
    order = sorted(held, key=lambda worker: (-len(set(held[worker])), worker))
    quotas = {worker: count // len(held) + (index < count % len(held)) for index, worker in enumerate(order)}
    for worker in order:
        shares[worker] = [p for p in sorted(set(held[worker])) if p in free][: quotas[worker]]
        free.difference_update(shares[worker])
    left = sorted(free)
    for worker in order:
        missing = quotas[worker] - len(shares[worker])
        shares[worker] += left[:missing]
        del left[:missing]
    return {worker: tuple(sorted(partitions)) for worker, partitions in shares.items()}


def partition_count(replicas: int, partitions: int) -> int:
    """Return the number of partitions for this many replicas: a power of two, so that topics seldom grow."""
    return partitions if replicas <= partitions else 1 << (replicas - 1).bit_length()


def _failed_by_worker(instances: Iterable[InstanceRow]) -> dict[str, frozenset[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in instances:
        if row.state is InstanceState.FAILED:
            found[row.worker].add(row.variant)
    return {worker: frozenset(variants) for worker, variants in found.items()}
