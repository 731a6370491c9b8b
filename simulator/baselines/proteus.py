"""Proteus: a fixed cluster, whose variants a mixed integer program chooses for the highest accuracy.

Source: Ahmad et al., "Proteus: A High-Throughput Inference-Serving System with Accuracy Scaling", ASPLOS'24: a program
each 30 s over the demand of the last interval plus 5 % (section 4), queries assigned by its shares, and proactive
batching (section 5).

The cluster has the maximum number of workers of all hardware, or the scenario's fleet. Minimum accuracy and the other
needs of a class limit its variants; the paper knows latency only.

Choices where the paper is silent: the first allocation knows the demand of the trace's first 30 s and is loaded at the
start. Devices that the load leaves free serve it, too, if that costs no accuracy. The program takes no time. A query
that no replica may answer starts the next program early. Of a variant's replicas, the one with the shortest queue gets
a query.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from typing import Final

from simulator.baselines.accuracy_program import AccurateAllocation, ClassDemand, solve_accuracy
from simulator.baselines.base import BaselineSystem
from simulator.baselines.one_variant import computing
from simulator.baselines.priced_profile import PricedProfile, compute_limit_s, query_class
from simulator.baselines.proactive_queue import ProactiveQueue
from simulator.baselines.replica import Replica, shortest
from simulator.baselines.static import query_of
from simulator.cluster.instance import InstanceHost, SimulatedInstance
from simulator.cluster.query import SimulatedQuery
from simulator.cluster.variant import SimulatedVariant
from simulator.system import SimulationContext

_PERIOD_S: Final = 30.0
_SLACK: Final = 0.05
_SPARE: Final = (4.0, 2.0, 1.5)
"""Multiples of the demand that are tried, largest first."""
_SAME_LOSS: Final = 1e-3
_WHOLE: Final = 1.0 + 1e-6
"""Slots of a worker, with rounding."""


class ProteusSystem(BaselineSystem):
    """Proteus on a fixed cluster."""

    def __init__(self, context: SimulationContext, *, whole_cluster: bool = True) -> None:
        """Make the system; without `whole_cluster` it has the scenario's fleet only."""
        super().__init__(context)
        hardware = self.cluster.hardware
        self._workers = {name: one.maximum for name, one in hardware.items()} if whole_cluster else self.scenario.fleet
        self.fleet.make = self._make_instance
        self._demands: dict[Hashable, ClassDemand] = {}
        """Classes of queries, with the demand of the last program."""
        self._inputs = Counter[Hashable]()
        """Inputs by class since the last program."""
        self._solved_s: float | None = None
        """Time from which on the demand of the next program is counted; None before the first query."""
        self._allocation = AccurateAllocation({}, {}, 0.0)

    # -- queries -------------------------------------------------------------------------------------------------------

    def dispatch(self, query: SimulatedQuery) -> None:
        """Send a query to a variant by the shares of its class."""
        key, now = query_class(query.query), self.events.now
        self._solved_s = now if self._solved_s is None else self._solved_s
        if key not in self._demands:
            options = self.profiles.meeting(query.query)
            self._demands[key] = ClassDemand(key, 0.0, compute_limit_s(query.query), options)
        replicas = self._assigned(key)
        if replicas:
            self._inputs[key] += query.inputs
            self.send(query, shortest(computing(replicas)))
        else:
            self.hold(query)

    def _assigned(self, key: Hashable) -> list[Replica]:
        """Return the replicas of a variant that is drawn by its share, or else all that meet the needs."""
        shares = [(name, share) for name, share in self._allocation.shares.get(key, ()) if self.fleet.ready(name)]
        if not shares:
            return [one for option in self._demands[key].options for one in self.fleet.replicas[option.name]]
        drawn = self.random.random() * sum(share for _, share in shares)
        for name, share in shares:
            drawn -= share
            if drawn <= 0.0:
                return self.fleet.replicas[name]
        return self.fleet.replicas[shares[-1][0]]

    def _make_instance(self, variant: SimulatedVariant, worker: InstanceHost, max_batch: int) -> SimulatedInstance:
        """Make an instance with proactive batching."""
        instance = SimulatedInstance(variant, worker, max_batch)
        instance.work.queue = ProactiveQueue(
            instance.work.latency,
            worker.schedule.arrivals,
            worker.schedule.turn,
            spread=max(point.p99_s / point.p50_s for point in variant.profile.latency),
            clock=lambda: self.events.now,
            wake_at=partial(self._wake_at, worker),
        )
        return instance

    def _wake_at(self, worker: InstanceHost, at_s: float) -> None:
        self.events.at(at_s, lambda _: worker.wake())

    # -- allocation ----------------------------------------------------------------------------------------------------

    def begin_fleet(self) -> None:
        """Start the cluster, with the variants for the first interval of the trace."""
        for hardware, count in sorted(self._workers.items()):
            for _ in range(count):
                self.fleet.add_running(hardware)
        trace = self.scenario.trace.cut(0.0, _PERIOD_S)
        counts = Counter(trace.kind.tolist())
        for number, kind in enumerate(trace.kinds):
            query = query_of(kind)
            key, options = query_class(query), self.profiles.meeting(query)
            if options:
                self._demands[key] = ClassDemand(key, 0.0, compute_limit_s(query), options)
                self._inputs[key] += counts[number] * kind.batch
        self._solve(min(max(self.scenario.trace.duration_s, 1.0), _PERIOD_S))
        for profile, worker in self._missing():
            self.fleet.host(profile, worker)

    def tick(self) -> None:
        """Solve the program each interval, and load and unload variants until the workers follow it."""
        passed_s = 0.0 if self._solved_s is None else self.events.now - self._solved_s
        if passed_s >= _PERIOD_S or (self.held() and passed_s > 1.0):
            self._solve(passed_s)
            self._solved_s = self.events.now
        for name, replicas in list(self.fleet.replicas.items()):
            for replica in sorted(replicas, key=lambda one: one.queued)[: self._surplus(name)]:
                self.fleet.unload(replica, "allocation")
        for profile, worker in self._missing():
            self.fleet.load(profile, worker, "allocation")

    def _solve(self, seconds: float) -> None:
        for key, demand in self._demands.items():
            self._demands[key] = demand._replace(inputs_per_s=self._inputs[key] / seconds)
        self._inputs.clear()
        known = [demand for demand in self._demands.values() if demand.inputs_per_s > 0.0]
        if known:
            self._allocation = self._best(known)

    def _best(self, demands: Sequence[ClassDemand]) -> AccurateAllocation:
        """Return the allocation with the largest slack whose accuracy is that of the least slack."""
        least = solve_accuracy(_scaled(demands, 1.0 + _SLACK), self._workers)
        for factor in _SPARE:
            found = solve_accuracy(_scaled(demands, factor), self._workers)
            if found.loss <= least.loss + _SAME_LOSS:
                return found
        return least

    def _surplus(self, name: str) -> int:
        return max(len(self.fleet.replicas[name]) - self._allocation.replicas.get(name, 0), 0)

    def _missing(self) -> Iterator[tuple[PricedProfile, str]]:
        """Yield the missing variants, each with a worker that has slots for it; the caller loads each at once."""
        wanted = [(self.profiles.by_name[name], count) for name, count in self._allocation.replicas.items()]
        for profile, count in sorted(wanted, key=lambda one: (-one[0].share, one[0].name)):
            for worker in self.fleet.workers(profile.hardware.name):
                if len(self.fleet.replicas[profile.name]) >= count:
                    break
                used = sum(one.profile.share for one in self.fleet.hosted[worker])
                if used + profile.share <= _WHOLE and self.fleet.fits(profile, worker):
                    yield profile, worker


def _scaled(demands: Sequence[ClassDemand], factor: float) -> list[ClassDemand]:
    return [demand._replace(inputs_per_s=demand.inputs_per_s * factor) for demand in demands]
