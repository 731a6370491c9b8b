"""KEDA: replicas by the lag of a Kafka consumer group.

Source: KEDA's documentation ("Scaling Deployments", "Apache Kafka" scaler) and that of Kubernetes ("Horizontal Pod
Autoscaling"), with their defaults: a replica for each 5 records of lag. Each 15 s, the number of replicas follows
unless it is within 10 %. It at most doubles or grows by 4, and falls to the largest number wanted within 300 s. KEDA
removes the last replica after 300 s without lag.

Differences: the first query starts the first replica; KEDA looks for it each 30 s. Partitions are as many as replicas,
so none is without work. A producer picks any partition.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import ceil
from typing import Final

from simulator.baselines.one_variant import OneVariantSystem, computing
from simulator.baselines.priced_profile import PricedProfile
from simulator.baselines.replica import Replica
from simulator.system import SimulationContext

LAG_THRESHOLD: Final = 5
_SYNC_S: Final = 15.0
_TOLERANCE: Final = 0.1
_STABILISATION_S: Final = 300.0
_COOLDOWN_S: Final = 300.0
_MOST_ADDED: Final = 4


class KedaSystem(OneVariantSystem):
    """Deployment of one variant for each class, scaled as by KEDA."""

    interval_s = _SYNC_S

    def __init__(self, context: SimulationContext) -> None:
        super().__init__(context)
        self._wanted: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        """Time and wanted number of replicas of past syncs, by variant."""
        self._active_at: dict[str, float] = {}
        """Time of the last lag, by variant."""

    def choose(self, replicas: list[Replica]) -> Replica:
        """Return any replica that computes."""
        there = computing(replicas)
        return there[int(self.random.integers(len(there)))]

    def scale(self, profile: PricedProfile, replicas: Sequence[Replica]) -> None:
        """Scale to the replicas that the lag wants."""
        now, lag, current = self.events.now, sum(one.queued for one in replicas), len(replicas)
        if lag:
            self._active_at[profile.name] = now
        elif now - self._active_at.setdefault(profile.name, now) >= _COOLDOWN_S:
            self.scale_to(profile, 0, "no lag")
            return
        past = [(at_s, count) for at_s, count in self._wanted[profile.name] if now - at_s < _STABILISATION_S]
        self._wanted[profile.name] = [*past, (now, wanted_replicas(lag, current))]
        stable = max(count for _, count in self._wanted[profile.name])
        wanted = self._wanted[profile.name][-1][1]
        self.scale_to(profile, wanted if wanted > current else min(stable, current), f"lag {lag}")


def wanted_replicas(lag: int, current: int) -> int:
    """Return the replicas that the Horizontal Pod Autoscaler wants for a lag, at least 1."""
    if abs(lag / (LAG_THRESHOLD * current) - 1.0) <= _TOLERANCE:
        return current
    return min(max(ceil(lag / LAG_THRESHOLD), 1), max(2 * current, current + _MOST_ADDED))
