"""INDV of INFaaS, also called SM+: the user picks a model, and each model's instances scale by themselves.

Source: Romero et al., "INFaaS: Automated Model-less Inference Serving", USENIX ATC'21, section 6 (SageMaker and AI
Platform as baselines), and mode `individual` of the authors' prototype, `autoscaler.cc`: each second, `checkModvar`
compares the inputs of a variant with the throughput of its replicas. It adds as many as are missing at once, and
removes one after a number of seconds in which one fewer would have been enough.

Differences: `checkModvar` wants 0.0002 * throughput * milliseconds of a load in addition, on accelerators. With a load
of 5 s that asks for another replica at any load, up to a maximum of 2, so all hardware uses the rule for CPUs here.
Replicas of several variants share the slots of a worker, where the prototype gives each its own cores. So a variant
gets another replica, too, when all workers of its replicas are above the 80 % at which INFaaS adds workers. The user
knows all profiles and picks the cheapest variant that meets the needs. One replica always stays, as with SageMaker.
"""

from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Final

from simulator.baselines.base import UTILISATION
from simulator.baselines.one_variant import OneVariantSystem
from simulator.baselines.priced_profile import PricedProfile
from simulator.baselines.replica import Replica
from simulator.system import SimulationContext

CPU_HEURISTIC: Final = 0.05
GPU_BATCH: Final = 32
"""Largest batch by which the prototype computes the throughput of an accelerator."""
_DOWN_AFTER: Final = {"cpu": 10, "inferentia": 15}
_DOWN_AFTER_GPU: Final = 20


class IndividualSystem(OneVariantSystem):
    """INDV: one variant by class of queries, scaled by its own load."""

    def __init__(self, context: SimulationContext) -> None:
        super().__init__(context)
        self._surplus = Counter[str]()
        """Seconds with a replica too many since the last change, by variant; other seconds do not reset them."""

    def scale(self, profile: PricedProfile, replicas: Sequence[Replica]) -> None:
        """Add the missing replicas, or remove one that was too many for long enough."""
        single, needed = replica_throughput(profile, replicas), sum(one.inputs_per_s for one in replicas)
        reason = f"{needed:.0f} inputs/s of {len(replicas) * single:.0f}"
        missing = needed - (1.0 - CPU_HEURISTIC) * len(replicas) * single
        if missing > 0:
            self._surplus[profile.name] = 0
            self.scale_to(profile, len(replicas) + ceil(missing / single), reason)
        elif all(one.is_ready and self.fleet.utilisation.get(one.worker, 0.0) > UTILISATION for one in replicas):
            self.scale_to(profile, len(replicas) + 1, "all its workers are busy")
        elif len(replicas) > 1 and needed <= (len(replicas) - 1) * single:
            self._surplus[profile.name] += 1
            if self._surplus[profile.name] > down_after(profile):
                self._surplus[profile.name] = 0
                self.scale_to(profile, len(replicas) - 1, reason)


def replica_throughput(profile: PricedProfile, replicas: Sequence[Replica]) -> float:
    """Return the inputs a second of one replica: in the mean batch of the queries, on accelerators in a full one."""
    if not profile.is_cpu:
        return profile.throughput(min(profile.max_batch, GPU_BATCH))
    queries = sum(one.queries_per_s for one in replicas)
    mean = round(sum(one.inputs_per_s for one in replicas) / queries) if queries else 1
    return profile.throughput(min(max(mean, 1), profile.max_batch))


def down_after(profile: PricedProfile) -> int:
    """Return the seconds with a replica too many after which one is removed."""
    return _DOWN_AFTER.get(profile.hardware.name, _DOWN_AFTER_GPU)
