"""Parts that all baselines share: the way of a query, the initial fleet, and a decision on the scale at each interval.

Rules, the same for each baseline, so that a comparison with INFaaS on Kafka is one of decisions:
* A query takes the hops that it takes there: client to dispatcher, dispatcher to worker, worker to client.
* Workers batch with the production code, unless batching is a baseline's own point.
* Where a source is silent, the baseline gets the better of two: it knows profiles, queues and rates exactly and without
  delay, and an act takes effect at once.
* Queries expire as in production. A baseline refuses only if its source does, or if no variant meets the needs.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from schemas.errors import RefusalReason
from simulator.baselines.fleet import BaselineFleet
from simulator.baselines.priced_profile import PricedProfile, PricedProfiles
from simulator.baselines.replica import Replica
from simulator.cluster.query import SimulatedQuery
from simulator.durations import draws
from simulator.outcomes import QueryOutcome
from simulator.system import ScaleChanges, SimulationContext

UTILISATION: Final = 0.8
"""Utilisation up to which a worker takes another instance: INFaaS's rule for workers, section 4.2.3 of its paper."""
IDLE_S: Final = 30.0
"""Seconds after which a worker without instances stops: 15 checks of INFaaS's prototype."""


class BaselineSystem(ABC):
    """Base of all baselines: they implement `dispatch` and `tick`."""

    interval_s: ClassVar[float] = 1.0

    def __init__(self, context: SimulationContext) -> None:
        launching, hops, self.random = context.random.spawn(3)
        self.scenario = context.scenario
        self.events = context.events
        self.cluster = context.cluster
        self.outcomes = context.outcomes
        self.profiles = PricedProfiles(context.cluster)
        self.changes: ScaleChanges = []
        self.fleet = BaselineFleet(context.cluster, launching, self.changes)
        self.launcher = self.fleet.launcher
        self.statuses_stop_until = 0.0  # without effect: no baseline reads statuses
        self._to_dispatcher = draws(context.scenario.delays.to_selector, hops)
        self._held: list[SimulatedQuery] = []
        self._stopped_until = 0.0

    # -- decisions -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def dispatch(self, query: SimulatedQuery) -> None:
        """Send, hold or refuse a query that has arrived now, or that was held."""

    @abstractmethod
    def tick(self) -> None:
        """Decide on the scale; called at each interval, after rates and utilisation were measured."""

    # -- system --------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the initial fleet."""
        self.begin_fleet()
        self.events.after(self.interval_s, self._tick)

    def begin_fleet(self) -> None:
        """Start the workers and instances that the scenario names."""
        for hardware, count in sorted(self.scenario.fleet.items()):
            for _ in range(count):
                self.fleet.add_running(hardware)
        for name, count in sorted(self.scenario.placed.items()):
            profile = self.profiles.by_name[name]
            names = [name for name in self.fleet.workers(profile.hardware.name) if self.fleet.fits(profile, name)]
            for worker in sorted(names, key=lambda name: len(self.fleet.hosted[name]))[:count]:
                self.fleet.host(profile, worker)

    def arrive(self, query: SimulatedQuery) -> None:
        """Take a query that its client sends now."""
        self.events.after(next(self._to_dispatcher), self._arrived, query)

    def held(self) -> int:
        """Return the number of queries that wait for an instance."""
        return len(self._held)

    def stop_scaling_until(self, time_s: float) -> None:
        """Make no scaling decision until `time_s`."""
        self._stopped_until = time_s

    def worker_died(self, name: str) -> None:
        """Start the process of a worker again that has died."""
        self.fleet.worker_died(name)

    def _arrived(self, query: SimulatedQuery) -> None:
        if self.profiles.meeting(query.query):
            self.dispatch(query)
        else:
            self.refuse(query, RefusalReason.NEEDS_UNSATISFIABLE)

    def _tick(self, _argument: object) -> None:
        now = self.events.now
        self.fleet.end_interval(self.interval_s)
        if self.scenario.scaling.enabled and now >= self._stopped_until:
            self.tick()
        self._dispatch_held()
        self.events.after(self.interval_s, self._tick)

    def _dispatch_held(self) -> None:
        held, self._held = self._held, []
        for query in held:
            if query.deadline_s <= self.events.now and not query.allow_late:
                self.outcomes.ended(query.number, QueryOutcome.EXPIRED, self.events.now, RefusalReason.DEADLINE_PASSED)
            else:
                self.dispatch(query)

    # -- acts ----------------------------------------------------------------------------------------------------------

    def send(self, query: SimulatedQuery, replica: Replica) -> None:
        """Send a query to a replica."""
        self.chosen(query, replica.profile)
        replica.count(query)
        self.cluster.send(query, replica.log_of(query))

    def chosen(self, query: SimulatedQuery, profile: PricedProfile) -> None:
        """Record the choice of a variant for a query."""
        self.outcomes.chosen(query.number, profile.variant.number, self.events.now, cost=profile.cost(query.inputs))

    def refuse(self, query: SimulatedQuery, reason: RefusalReason) -> None:
        """Refuse a query."""
        self.outcomes.ended(query.number, QueryOutcome.REFUSED, self.events.now, reason)

    def hold(self, query: SimulatedQuery) -> None:
        """Keep a query for which there is no instance until the next tick, which dispatches it again."""
        self._held.append(query)

    def place(self, profile: PricedProfile, reason: str, *, limit: float = UTILISATION) -> Replica | None:
        """Load a variant on the least utilised worker that has room, or on a new one; None: there is no room.

        Args:
            profile: the variant.
            reason: reason of the decision, for the record.
            limit: utilisation above which a worker has no room.
        """
        worker = self.worker_with_room(profile, limit) or self.fleet.start_worker(profile.hardware.name, reason)
        return None if worker is None else self.fleet.load(profile, worker, reason)

    def worker_with_room(self, profile: PricedProfile, limit: float = UTILISATION) -> str | None:
        """Return the least utilised worker up to the limit on which a variant fits; None: there is none."""
        fleet = self.fleet
        names = (name for name in fleet.workers(profile.hardware.name) if fleet.fits(profile, name))
        room = [(fleet.utilisation.get(name, 0.0), len(fleet.hosted[name]), name) for name in names]
        return min((one for one in room if one[0] <= limit), default=(0.0, 0, None))[2]

    def stop_idle_workers(self) -> None:
        """Stop workers that have hosted nothing for `IDLE_S`, down to the minimum of their hardware."""
        now = self.events.now
        for name, since_s in list(self.fleet.idle_since.items()):
            up = self.cluster.workers.get(name)
            if up is None or name in self.fleet.leaving or now - since_s < IDLE_S:
                continue
            hardware = up.hardware.name
            if len(self.fleet.workers(hardware)) > self.scenario.scaling.min_workers.get(hardware, 0):
                self.fleet.stop_worker(name, "hosts nothing")
