"""Ray Serve: replicas by the number of ongoing requests, and the power of two choices.

Source: Ray Serve's documentation ("Ray Serve Autoscaling", "Advanced Ray Serve Autoscaling") and
`ray/serve/autoscaling_policy.py` of Ray 2.50, with the defaults of `AutoscalingConfig`: the mean number of ongoing
requests over 30 s, divided by the target for a replica, is wanted. More replicas start once that has been so for 30 s,
fewer remain once it has been so for 600 s. Requests go to the shorter queue of two replicas that are drawn
(Mitzenmacher, 2001).

Differences: the target, which the user must choose, is the number of inputs of one full batch in time for each slot of
a replica; the default of 2 would leave batches empty. The router sees queues exactly, and no request waits at it.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from math import ceil
from typing import Final

from simulator.baselines.one_variant import OneVariantSystem, computing
from simulator.baselines.priced_profile import PricedProfile
from simulator.baselines.replica import Replica, shortest
from simulator.system import SimulationContext

_LOOK_BACK_S: Final = 30
_UPSCALE_DELAY_S: Final = 30.0
_DOWNSCALE_DELAY_S: Final = 600.0


class RayServeSystem(OneVariantSystem):
    """Deployment of one variant for each class, scaled as by Ray Serve."""

    def __init__(self, context: SimulationContext) -> None:
        super().__init__(context)
        self._ongoing: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_LOOK_BACK_S))
        """Ongoing requests of each second, by variant."""
        self._since: dict[str, tuple[bool, float]] = {}
        """Direction of a wanted change, true for more replicas, and the time since which it is wanted."""

    def choose(self, replicas: list[Replica]) -> Replica:
        """Return the replica with the shorter queue of two that are drawn."""
        there = computing(replicas)
        if len(there) <= 2:
            return shortest(there)
        first, second = self.random.choice(len(there), 2, replace=False).tolist()
        return shortest([there[first], there[second]])

    def scale(self, profile: PricedProfile, replicas: Sequence[Replica]) -> None:
        """Scale to the wanted number of replicas once it has been wanted for the delay of its direction."""
        ongoing, now, current = self._ongoing[profile.name], self.events.now, len(replicas)
        ongoing.append(sum(one.queued for one in replicas))
        mean = sum(ongoing) / len(ongoing)
        wanted = max(ceil(mean / self.target(profile)), 1)
        is_up = wanted > current
        before = self._since.get(profile.name)
        if wanted == current:
            self._since.pop(profile.name, None)
        elif before is None or before[0] != is_up:
            self._since[profile.name] = is_up, now
        elif now - before[1] >= (_UPSCALE_DELAY_S if is_up else _DOWNSCALE_DELAY_S):
            del self._since[profile.name]
            self.scale_to(profile, wanted, f"{mean:.1f} ongoing requests")

    def target(self, profile: PricedProfile) -> int:
        """Return the wanted number of ongoing requests of one replica."""
        return profile.parallel * profile.in_time_batch(self.limits_s[profile.name])
