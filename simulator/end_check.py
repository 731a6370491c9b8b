"""Check of the invariants that hold at the end of a simulation (`simulator.invariants`)."""

from math import isclose

import numpy as np

from simulator.cluster.cluster import Cluster
from simulator.invariants import broken
from simulator.outcomes import Outcomes, QueryOutcome
from simulator.system import SimulatedSystem
from simulator.trace import Trace


def check_end(trace: Trace, outcomes: Outcomes, cluster: Cluster, system: SimulatedSystem) -> None:
    """Check invariants 1, 2, 7, 9 and 10.

    Raises:
        InvariantError: one does not hold.
    """
    if outcomes.repeated:
        broken(1, f"{outcomes.repeated} queries had a second outcome")
    columns, found = outcomes.columns(0.0), system.held() + _waiting(cluster)
    waiting = int((columns.outcome == QueryOutcome.WAITING).sum())
    if waiting != outcomes.open or waiting < found:
        broken(2, f"{waiting} queries have no outcome, {outcomes.open} are open, {found} are found")
    early = columns.ended_s < trace.time_s
    if early.any():
        broken(9, f"query {int(np.argmax(early))} ended before it arrived")
    charged, summed = cluster.usd_now(), system.launcher.usd()
    if not isclose(charged, summed, rel_tol=1e-9, abs_tol=1e-12):
        broken(10, f"the fleet costs {charged} USD, its workers {summed}")


def _waiting(cluster: Cluster) -> int:
    """Return the queries that wait in logs or at instances; those on their way are not among them."""
    waiting = 0
    for variant in cluster.variants.values():
        for log in (log for pair in variant.partitions for log in pair):
            if log.lag < 0 or log.held < 0:
                broken(7, f"{log.variant}/{log.number} has a lag of {log.lag}, {log.held} held")
            waiting += len(log.waiting) + log.held
    return waiting
