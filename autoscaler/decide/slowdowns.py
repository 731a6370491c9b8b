"""Slowdown of variants against their profiles, from measurements of the variant and of its hardware."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from autoscaler.decide.pareto import RunnableVariant
from autoscaler.decide.snapshot import ClusterSnapshot

_MOST_SLOWDOWN: Final = 4.0


class Slowdowns:
    """Slowdown of each variant against its profile: the larger of its own and that of its hardware.

    Measurements are weighted by computing time, so that rare batches count little.
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
                # Interference affects all variants of the hardware; a wrong profile (`correction`) only its own
                # variant.
                for name, factor in ((candidate.name, load.correction), (candidate.variant.hardware, 1.0)):
                    slowdowns[name].append(slowdown * factor)
                    busy[name].append(slots)
        self.means = {name: fmean(found, busy[name]) for name, found in slowdowns.items()}

    def of(self, candidate: RunnableVariant) -> float:
        """Return the slowdown of a candidate, at least 1."""
        return max(self.means.get(candidate.name, 1.0), self.means.get(candidate.variant.hardware, 1.0))
