"""How much slower variants are than profiled, by what was measured of them and beside them."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ClusterSnapshot

_MOST_SLOWDOWN: Final = 4.0


class Slowdowns:
    """Slowdown of each variant against its profile: as measured, and at least as that of others on its hardware.

    What is measured counts as much as the time it was measured in: a batch now and then says little.
    """

    def __init__(self, candidates: Sequence[RunnableVariant], snapshot: ClusterSnapshot) -> None:
        known = {candidate.name: candidate for candidate in candidates}
        slowdowns: defaultdict[str, list[float]] = defaultdict(list)
        busy: defaultdict[str, list[float]] = defaultdict(list)
        for load in snapshot.instance_loads:
            if load.variant in known and load.inputs_per_s > 0:
                candidate = known[load.variant]
                slowdown = min(max(load.slowdown, 1.0), _MOST_SLOWDOWN)
                slots = load.inputs_per_s * candidate.latency.input_s()
                # What interferes with one interferes with others there; a profile that is wrong is wrong by itself.
                for name, factor in ((candidate.name, load.correction), (candidate.variant.hardware, 1.0)):
                    slowdowns[name].append(slowdown * factor)
                    busy[name].append(slots)
        self.means = {name: fmean(found, busy[name]) for name, found in slowdowns.items()}

    def of(self, candidate: RunnableVariant) -> float:
        """Slowdown of a candidate, at least 1."""
        return max(self.means.get(candidate.name, 1.0), self.means.get(candidate.variant.hardware, 1.0))
