"""The decision: what the load needs, what there should be of it by now, and where.

    needs -> heuristic, or the solver's last answer -> hysteresis -> workers, batch limits -> packing -> partitions

Unknown is not zero: after a reading that failed nothing is changed. While a person pauses, only what is lost is
replaced.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from autoscaler.decide.batch_limits import batch_limits
from autoscaler.decide.optimizer.greedy import solve_until_stable
from autoscaler.decide.optimizer.model import Allocation, AllocationProblem, cost, served, slots_used
from autoscaler.decide.pareto import VariantRanking
from autoscaler.decide.partitions import grown
from autoscaler.decide.placement import DesiredInstances, place_variants, replace_lost
from autoscaler.decide.placement_builder import PlacementBuilder
from autoscaler.decide.plan import ScalePlan, SolverTargets
from autoscaler.decide.requirements import build_problem, idle_tasks
from autoscaler.decide.snapshot import ClusterSnapshot, DecisionMemory, ScalingLimits
from autoscaler.decide.stabilization import ScaleDownStabilizer
from autoscaler.decide.worker_counts import PoolTarget, pool_targets, worker_count_changes
from schemas.rows.catalog import Variant

Policy: TypeAlias = Literal["greedy", "milp"]

_MOST_EXPLAINED: Final = 20


def decide(
    variants: Mapping[str, Variant],
    ranking: VariantRanking,
    situation: ClusterSnapshot,
    limits: ScalingLimits,
    policy: Policy = "greedy",
    targets: SolverTargets | None = None,
) -> ScalePlan:
    """What to change.

    Args:
        variants: all that are ready.
        ranking: those of them that workers can run.
        situation: what was observed.
        limits: how far it may go.
        policy: with `milp` the solver's last answer is followed, as long as the load fits on it.
        targets: that answer; without one the heuristic decides.
    """
    if not situation.known:
        return ScalePlan(memory=situation.memory)
    if situation.paused:
        return _hold(variants, ranking, situation, limits)
    problem = build_problem(ranking, situation, limits)
    followed = targets if policy == "milp" else None
    answer = solve_until_stable(problem) if followed is None else follow(problem, followed)
    damper = ScaleDownStabilizer(situation.memory.surplus, situation.observed_s)
    wanted = _wanted(problem, answer, ranking, situation, limits, damper)
    used = slots_used(problem, answer.shares)
    busy = [sum(u for u, k in zip(used, problem.kinds, strict=True) if k.pool == n) for n in range(len(problem.pools))]
    teams = pool_targets(problem, answer, busy, situation, limits, damper)
    draft, drained, moved_s = _pack(variants, ranking, situation, limits, wanted, teams)
    return ScalePlan(
        changes=tuple(draft.changes.values()),
        unplaced=draft.unplaced,
        workers=worker_count_changes(teams, drained, situation),
        drain=drained,
        partitions=_partitions(draft) if situation.can_add_partitions else {},
        memory=DecisionMemory(surplus=damper.surplus, moved_s=moved_s),
        explanation=_explain(problem, answer, teams, "heuristic" if followed is None else f"solver: {followed.reason}"),
    )


def follow(problem: AllocationProblem, targets: SolverTargets) -> Allocation:
    """The solver's answer, and what the load needs beyond it by now."""
    kinds = tuple(
        msgspec.structs.replace(k, now=min(targets.instances.get(k.name, 0), k.maximum)) for k in problem.kinds
    )
    pools = tuple(msgspec.structs.replace(p, now=targets.workers.get(p.hardware, p.minimum)) for p in problem.pools)
    answer = solve_until_stable(msgspec.structs.replace(problem, kinds=kinds, pools=pools))
    return msgspec.structs.replace(
        answer,
        instances=tuple(max(n, kind.now) for n, kind in zip(answer.instances, kinds, strict=True)),
        workers=tuple(min(max(n, p.now), p.maximum) for n, p in zip(answer.workers, pools, strict=True)),
    )


def _hold(
    variants: Mapping[str, Variant], ranking: VariantRanking, situation: ClusterSnapshot, limits: ScalingLimits
) -> ScalePlan:
    """Replace what is lost, change nothing else."""
    draft = PlacementBuilder(variants, ranking, situation, limits)
    replace_lost(draft)
    return ScalePlan(
        changes=tuple(draft.changes.values()),
        unplaced=draft.unplaced,
        memory=situation.memory,
        explanation={"by": "a person paused the scale"},
    )


def _wanted(
    problem: AllocationProblem,
    answer: Allocation,
    ranking: VariantRanking,
    situation: ClusterSnapshot,
    limits: ScalingLimits,
    damper: ScaleDownStabilizer,
) -> DesiredInstances:
    """The answer by variant, with what is too much kept for a while."""
    used = slots_used(problem, answer.shares)
    rates: defaultdict[str, float] = defaultdict(float)
    for (number, place), share in answer.shares.items():
        need = problem.needs[number]
        rates[problem.kinds[need.options[place].kind].name] += share * need.rate
    instances, kept, work = dict[str, int](), dict[str, int](), dict[str, float]()
    for kind, count, slots in zip(problem.kinds, answer.instances, used, strict=True):
        delay_s = max(limits.downscale_delay_s, limits.downscale_delay_loads * ranking.candidates[kind.name].load_s)
        kept[kind.name] = damper.apply(kind.name, kind.now, count, delay_s)
        if count:
            instances[kind.name] = count
        if slots > 0:
            work[kind.name] = slots
    return DesiredInstances(
        instances=instances,
        kept=kept,
        work=work,
        rates=rates,
        maximum={kind.name: kind.maximum for kind in problem.kinds},
        batches=batch_limits(problem, ranking, situation, limits, damper),
        task_maximum=problem.task_maximum,
        idle_tasks=frozenset(idle_tasks(ranking, situation, limits)),
    )


def _pack(
    variants: Mapping[str, Variant],
    ranking: VariantRanking,
    situation: ClusterSnapshot,
    limits: ScalingLimits,
    wanted: DesiredInstances,
    teams: Sequence[PoolTarget],
) -> tuple[PlacementBuilder, tuple[str, ...], dict[str, float]]:
    """Pack with as many workers leaving as should, or with as many as can be emptied."""
    leaving = [name for crew in teams for name in crew.leaving]
    while True:
        draft = PlacementBuilder(variants, ranking, situation, limits)
        for name in leaving:
            draft.rooms[name].open = False
        moved_s = place_variants(draft, wanted)
        if all(not draft.rooms[name].hosted for name in leaving):
            return draft, tuple(leaving), moved_s
        leaving = leaving[: len(leaving) // 2]


def _partitions(draft: PlacementBuilder) -> dict[str, int]:
    """Variants with more replicas than partitions."""
    found = dict[str, int]()
    for name, variant in draft.variants.items():
        count = grown(len(draft.hosts(name)), variant.partitions)
        if count > variant.partitions:
            found[name] = count
    return found


def _explain(problem: AllocationProblem, answer: Allocation, teams: Sequence[PoolTarget], by: str) -> dict[str, Any]:
    """What a person would ask for who doubts the decision."""
    shares = served(problem, answer)
    largest = sorted((n for n, need in enumerate(problem.needs) if need.rate > 0), key=lambda n: -problem.needs[n].rate)
    return {
        "by": by,
        "usd_per_hour": round(cost(problem, answer), 6),
        "workers": {crew.hardware: {"there": crew.there, "wanted": crew.wanted} for crew in teams},
        "needs": [_explain_need(problem, number, shares[number]) for number in largest[:_MOST_EXPLAINED]],
    }


def _explain_need(problem: AllocationProblem, number: int, share: float) -> dict[str, Any]:
    need = problem.needs[number]
    asked = msgspec.to_builtins(need.load_class)
    return {"class": asked, "inputs_per_s": round(need.rate, 3), "served": round(share, 4)}
