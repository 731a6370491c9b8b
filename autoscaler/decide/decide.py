"""Decides which instances and workers should exist, and where, from a snapshot.

    requirements -> allocation (heuristic, or the solver's targets) -> stabilization -> worker counts, batch limits
                 -> placement -> partitions

Unknown load is not zero load: after a failed reading nothing changes. During a pause only lost instances are replaced.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.decide.optimizer.greedy import solve_greedy
from autoscaler.decide.optimizer.model import Allocation, AllocationProblem, cost, served, slots_used
from autoscaler.decide.pareto import VariantRanking
from autoscaler.decide.placement import DesiredInstances, place_variants, replace_lost
from autoscaler.decide.placement_builder import PlacementBuilder, partition_count
from autoscaler.decide.plan import ScalePlan, SolverTargets
from autoscaler.decide.requirements import build_problem, idle_tasks
from autoscaler.decide.snapshot import ClusterSnapshot, DecisionMemory, Policy, ScalingLimits
from autoscaler.decide.stabilization import ScaleDownStabilizer
from autoscaler.decide.throughput import spread_count
from autoscaler.decide.worker_counts import PoolTarget, pool_targets, worker_count_changes
from schemas.rows.catalog import Variant

_MOST_EXPLAINED: Final = 20


def decide(
    variants: Mapping[str, Variant],
    ranking: VariantRanking,
    snapshot: ClusterSnapshot,
    limits: ScalingLimits,
    policy: Policy = Policy.GREEDY,
    targets: SolverTargets | None = None,
) -> ScalePlan:
    """Plan the changes for a snapshot.

    Args:
        variants: all ready variants.
        ranking: the variants that workers can run, with the Pareto-best ones.
        snapshot: the observations.
        limits: bounds and delays of scaling.
        policy: MILP follows the solver's targets while the load fits them.
        targets: the solver's latest targets; without any, the heuristic decides.
    """
    if not snapshot.known:
        return ScalePlan(memory=snapshot.memory)
    decision = _Decision(variants, ranking, snapshot, limits)
    return decision.hold() if snapshot.paused else decision.plan(targets if policy is Policy.MILP else None)


class _Decision:
    """Decision on one snapshot."""

    def __init__(
        self, variants: Mapping[str, Variant], ranking: VariantRanking, snapshot: ClusterSnapshot, limits: ScalingLimits
    ) -> None:
        self.variants = variants
        self.ranking = ranking
        self.snapshot = snapshot
        self.limits = limits
        self.stabilizer = ScaleDownStabilizer(snapshot.memory.surplus, snapshot.observed_s)

    def builder(self, leaving: Collection[str] = ()) -> PlacementBuilder:
        return PlacementBuilder(self.variants, self.ranking, self.snapshot, self.limits, leaving)

    def hold(self) -> ScalePlan:
        """Return a plan that replaces lost instances and changes nothing else."""
        builder = self.builder()
        replace_lost(builder)
        return ScalePlan(
            changes=tuple(builder.changes.values()),
            unplaced=builder.unplaced,
            memory=self.snapshot.memory,
            explanation={"by": "scaling is paused"},
        )

    def plan(self, targets: SolverTargets | None) -> ScalePlan:
        """Return the plan for the solver's targets, or for the heuristic's without any."""
        problem = build_problem(self.ranking, self.snapshot, self.limits)
        allocation = solve_greedy(problem) if targets is None else follow_targets(problem, targets)
        used = slots_used(problem, allocation.shares)
        busy = [
            sum(u for u, v in zip(used, problem.variants, strict=True) if v.pool == n)
            for n in range(len(problem.pools))
        ]
        wanted = self.wanted(problem, allocation, used, busy)
        pools = pool_targets(problem, allocation, busy, self.snapshot, self.limits, self.stabilizer)
        builder, drained = self.place(wanted, pools)
        return ScalePlan(
            changes=tuple(builder.changes.values()),
            unplaced=builder.unplaced,
            workers=worker_count_changes(pools, drained, self.snapshot),
            drain=drained,
            partitions=_partitions(builder) if self.snapshot.can_add_partitions else {},
            memory=DecisionMemory(surplus=self.stabilizer.surplus),
            explanation=_explain(
                problem, allocation, pools, "heuristic" if targets is None else f"solver: {targets.reason}"
            ),
        )

    def wanted(
        self, problem: AllocationProblem, allocation: Allocation, used: Sequence[float], busy: Sequence[float]
    ) -> DesiredInstances:
        """Return the allocation by variant; surplus replicas are kept for the downscale delay.

        `used` and `busy` are the slots that the load takes, by variant and by pool.
        """
        limits = self.limits
        rates, chosen_rates = defaultdict[str, float](float), defaultdict[str, float](float)
        for (number, option_number), share in allocation.shares.items():
            requirement = problem.requirements[number]
            name = problem.variants[requirement.options[option_number].variant].name
            rates[name] += share * requirement.rate
            if requirement.load_class is not None and requirement.load_class.target is None:
                chosen_rates[name] += share * requirement.rate
        instances, spread = dict[str, int](), dict[str, int]()
        kept, load_slots = dict[str, int](), dict[str, float]()
        for variant, count, slots in zip(problem.variants, allocation.instances, used, strict=True):
            load_s = self.ranking.candidates[variant.name].load_s
            delay_s = max(limits.downscale_delay_s, limits.downscale_delay_loads * load_s)
            shared = slots > 0 and busy[variant.pool] > problem.pools[variant.pool].slots
            spread[variant.name] = max(count, spread_count(slots, variant.slots)) if shared else count
            kept[variant.name] = self.stabilizer.apply(variant.name, variant.now, spread[variant.name], delay_s)
            if count:
                instances[variant.name] = count
            if slots > 0:
                load_slots[variant.name] = slots
        return DesiredInstances(
            instances=instances,
            spread=spread,
            kept=kept,
            load_slots=load_slots,
            rates=rates,
            chosen_rates=chosen_rates,
            maximum={variant.name: variant.maximum for variant in problem.variants},
            batches=self.batch_limits(problem),
            task_maximum=problem.task_maximum,
            idle_tasks=frozenset(idle_tasks(self.ranking, self.snapshot, limits)),
        )

    def batch_limits(self, problem: AllocationProblem) -> Mapping[str, int]:
        """Return the largest allowed batch of each variant, so that its most urgent queries are answered in time.

        A running batch is not interrupted, so a query may wait for one whole batch before its own. Workers respect the
        deadlines of queries that they hold, but a batch of patient queries can still delay an urgent query that arrives
        a moment later. The limit is computed from profiles and the classes of load. Measured slowdowns are left out,
        because workers account for them; so the limit changes only when the kind of load changes. It is lowered at once
        and raised after a delay.

        On workers of several slots it is at least the mean query of each class. Larger queries are computed in pieces,
        and predicted as if in one slot: patient queries of eight inputs went to dearer variants that had no limit.
        """
        most = {name: candidate.variant.max_batch for name, candidate in self.ranking.candidates.items()}
        there, found, least = dict(most), dict(most), dict.fromkeys(most, 1)
        for row in self.snapshot.instances:
            if row.variant in there:
                there[row.variant] = min(there[row.variant], row.max_batch)
        # Every option counts, whatever its share: selectors may send a query to any of them.
        for requirement in problem.requirements:
            for option in (option for option in requirement.options if option.batch):
                variant = problem.variants[option.variant]
                found[variant.name] = min(found[variant.name], option.batch)
                if problem.pools[variant.pool].slots > 1:
                    least[variant.name] = max(least[variant.name], math.ceil(requirement.mean_batch))
        # The stabilizer delays decreases. Limits are negated, because here raising is what must be delayed.
        delay_s = self.limits.downscale_delay_s
        limits = {name: min(max(found[name], least[name]), most[name]) for name in most}
        return {
            name: -self.stabilizer.apply(f"{name} batch", -there[name], -limit, delay_s)
            for name, limit in limits.items()
        }

    def place(self, wanted: DesiredInstances, pools: Sequence[PoolTarget]) -> tuple[PlacementBuilder, tuple[str, ...]]:
        """Place all variants; if not all leaving workers can be emptied, halve their number until they can."""
        leaving = [name for pool in pools for name in pool.leaving]
        while True:
            builder = self.builder(frozenset(leaving))
            place_variants(builder, wanted)
            if all(not builder.capacities[name].hosted for name in leaving):
                return builder, tuple(leaving)
            leaving = leaving[: len(leaving) // 2]


def follow_targets(problem: AllocationProblem, targets: SolverTargets) -> Allocation:
    """Return the allocation of the solver's targets, extended where the load has outgrown them."""
    variants = tuple(
        msgspec.structs.replace(v, now=min(targets.instances.get(v.name, 0), v.maximum)) for v in problem.variants
    )
    pools = tuple(msgspec.structs.replace(p, now=targets.workers.get(p.hardware, p.minimum)) for p in problem.pools)
    allocation = solve_greedy(msgspec.structs.replace(problem, variants=variants, pools=pools))
    return msgspec.structs.replace(
        allocation,
        instances=tuple(max(n, variant.now) for n, variant in zip(allocation.instances, variants, strict=True)),
        workers=tuple(min(max(n, p.now), p.maximum) for n, p in zip(allocation.workers, pools, strict=True)),
    )


def _partitions(builder: PlacementBuilder) -> dict[str, int]:
    """Return the new number of partitions of each variant with more replicas than partitions."""
    found = dict[str, int]()
    for name, variant in builder.variants.items():
        count = partition_count(builder.host_count(name), variant.partitions)
        if count > variant.partitions:
            found[name] = count
    return found


def _explain(
    problem: AllocationProblem, allocation: Allocation, pools: Sequence[PoolTarget], by: str
) -> dict[str, Any]:
    """Return the main numbers behind the decision, for operators."""
    shares = served(problem, allocation)
    largest = sorted(
        (n for n, requirement in enumerate(problem.requirements) if requirement.rate > 0),
        key=lambda n: -problem.requirements[n].rate,
    )
    return {
        "by": by,
        "usd_per_hour": round(cost(problem, allocation), 6),
        "workers": {pool.hardware: {"there": pool.there, "wanted": pool.wanted} for pool in pools},
        "requirements": [_explain_requirement(problem, number, shares[number]) for number in largest[:_MOST_EXPLAINED]],
    }


def _explain_requirement(problem: AllocationProblem, number: int, share: float) -> dict[str, Any]:
    requirement = problem.requirements[number]
    asked = msgspec.to_builtins(requirement.load_class)
    return {"class": asked, "inputs_per_s": round(requirement.rate, 3), "served": round(share, 4)}
