"""Limits batch sizes so that a variant's most urgent queries are answered in time.

A running batch is not interrupted, so a query may wait for one whole batch before its own. Workers respect the
deadlines of queries that they hold, but a batch of patient queries can still delay an urgent query that arrives a
moment later. The limit is computed from profiles and the classes of load. Measured slowdowns are left out, because
workers account for them; so the limit changes only when the kind of load changes. It is lowered at once and raised
after a delay.
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
    """Return the largest allowed number of inputs in a batch, by variant."""
    found = {name: candidate.variant.max_batch for name, candidate in ranking.candidates.items()}
    there = dict(found)
    for row in snapshot.instances:
        if row.variant in there:
            there[row.variant] = min(there[row.variant], row.max_batch)
    # Every option counts, whatever its share: selectors may send a query to any of them.
    for option in (option for requirement in problem.requirements for option in requirement.options if option.batch):
        name = problem.variants[option.variant].name
        found[name] = min(found[name], option.batch)
    # The stabilizer delays decreases. Limits are negated, because here raising is what must be delayed.
    return {
        name: -stabilizer.apply(f"{name} batch", -there[name], -limit, limits.downscale_delay_s)
        for name, limit in found.items()
    }
