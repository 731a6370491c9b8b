"""Base of the baselines in which a user picks one variant for a class of queries, and only its replicas scale."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence

from simulator.baselines.base import BaselineSystem
from simulator.baselines.priced_profile import NO_LIMIT_S, PricedProfile, compute_limit_s
from simulator.baselines.replica import Replica, shortest
from simulator.cluster.query import SimulatedQuery
from simulator.system import SimulationContext


class OneVariantSystem(BaselineSystem):
    """System whose users know all profiles: each picks the cheapest variant that meets the needs of a class."""

    def __init__(self, context: SimulationContext) -> None:
        super().__init__(context)
        self.limits_s: defaultdict[str, float] = defaultdict(lambda: NO_LIMIT_S)
        """Strictest limit of the queries of each variant, in seconds of computation."""

    def dispatch(self, query: SimulatedQuery) -> None:
        """Send a query to a replica of its class's variant; the first query starts the first replica."""
        picked = self.profiles.meeting(query.query)[0]
        self.limits_s[picked.name] = min(self.limits_s[picked.name], compute_limit_s(query.query))
        replicas = self.fleet.replicas[picked.name]
        if replicas or self.place(picked, "first query") is not None:
            self.send(query, self.choose(replicas))
        else:
            self.hold(query)

    def choose(self, replicas: list[Replica]) -> Replica:
        """Return the replica for the next query, by default the one with the shortest queue."""
        return shortest(replicas)

    @abstractmethod
    def scale(self, profile: PricedProfile, replicas: Sequence[Replica]) -> None:
        """Decide on the number of a variant's replicas; it has at least one."""

    def tick(self) -> None:
        """Scale each variant by itself."""
        for name, replicas in list(self.fleet.replicas.items()):
            if replicas:
                self.scale(self.profiles.by_name[name], replicas)
        self.stop_idle_workers()

    def scale_to(self, profile: PricedProfile, count: int, reason: str) -> None:
        """Load or unload replicas of a variant until there are `count`, or no room for more."""
        replicas = self.fleet.replicas[profile.name]
        while len(replicas) < count and self.place(profile, reason) is not None:
            pass
        while len(replicas) > count:
            self.fleet.unload(min(replicas, key=lambda one: (one.is_ready, one.queued)), reason)


def computing(replicas: list[Replica]) -> list[Replica]:
    """Return the replicas that compute queries, or all if none does."""
    return [one for one in replicas if one.is_ready] or replicas
