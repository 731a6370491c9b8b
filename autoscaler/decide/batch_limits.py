"""Limits batches, so that the most urgent of what a variant serves is answered in time.

A query finds the slot busy with a batch that is not interrupted, and is computed in the next. Workers see to deadlines
by themselves as far as they know them, but what is not urgent today may make a batch that a query of the next moment
has to wait for. The limit follows from profiles and from what is asked, not from measured slowdowns, which workers
reckon with anyway: so it moves only when the load changes its kind. Lowered at once, raised after a while.
"""

from collections.abc import Mapping

from autoscaler.decide.optimizer.model import AllocationProblem
from autoscaler.decide.pareto import VariantRanking
from autoscaler.decide.snapshot import ClusterSnapshot, ScalingLimits
from autoscaler.decide.stabilization import ScaleDownStabilizer


def batch_limits(
    problem: AllocationProblem,
    ranking: VariantRanking,
    snapshot: ClusterSnapshot,
    limits: ScalingLimits,
    stabilizer: ScaleDownStabilizer,
) -> Mapping[str, int]:
    """Largest number of inputs in a batch, by variant."""
    found = {name: candidate.variant.max_batch for name, candidate in ranking.candidates.items()}
    there = dict(found)
    for row in snapshot.instances:
        if row.variant in there:
            there[row.variant] = min(there[row.variant], row.max_batch)
    # Selectors may send a query to any that will do, not just to where the allocation would have it.
    for option in (option for requirement in problem.requirements for option in requirement.options if option.batch):
        name = problem.variants[option.variant].name
        found[name] = min(found[name], option.batch)
    # The stabilizer holds back what falls; a limit that is raised is one whose strictness falls.
    return {
        name: -stabilizer.apply(f"{name} batch", -there[name], -limit, limits.downscale_delay_s)
        for name, limit in found.items()
    }
