"""INFaaS on Kafka in a simulation: gateways, selectors and the autoscaler between clients and workers."""

from collections import Counter

from broker.arrivals import Linger
from schemas.catalog import Catalog
from schemas.errors import RefusalReason
from schemas.load_classes import SelectorLoad
from schemas.query import MOST_LINGER_MS
from schemas.status import WorkerStatus
from simulator.cluster.query import SimulatedQuery
from simulator.durations import draws
from simulator.outcomes import QueryOutcome
from simulator.services.autoscaler import SimulatedAutoscaler
from simulator.services.gateway import SimulatedGateway
from simulator.services.selector import SimulatedSelector
from simulator.system import SimulationContext


class InfaasSystem:
    """The services of one simulation."""

    def __init__(self, context: SimulationContext, selector: type[SimulatedSelector] = SimulatedSelector) -> None:
        """Make the services; `selector` may choose replicas in another way."""
        scenario, delays = context.scenario, context.scenario.delays
        scaling, to_selector, status, routing = context.random.spawn(4)
        self._events = context.events
        self._outcomes = context.outcomes
        self._cluster = context.cluster
        self.autoscaler = SimulatedAutoscaler(context.cluster, scaling, self._held_by_task, self._register)
        self.launcher = self.autoscaler.launcher
        self.changes = self.autoscaler.changes
        self.statuses_stop_until = 0.0
        self.selectors = [
            selector(number, context.cluster, self._refused, self._demand, self._report)
            for number in range(scenario.selectors)
        ]
        self.gateways = [SimulatedGateway() for _ in range(scenario.gateways)]
        self._machine = context.cluster.machine
        self._linger = Linger(MOST_LINGER_MS / 1e3)
        self._sent_at_s = 0.0
        """Time at which the client sends the queries that it keeps."""
        self._to_selector = draws(delays.to_selector, to_selector)
        self._status = draws(delays.status, status)
        routes = routing.integers(0, (max(scenario.gateways, 1), scenario.selectors), (len(scenario.trace), 2))
        self._routes: list[list[int]] = routes.tolist()
        """Gateway and selector of each query: clients, and partitions of task topics, spread queries evenly."""

    def begin(self) -> None:
        """Start the initial fleet."""
        self._cluster.ended = self._answered
        self._cluster.listen(self._publish)
        self.autoscaler.begin()
        self._register(self.autoscaler.catalog)

    def arrive(self, query: SimulatedQuery) -> None:
        """Take a query that its client sends now."""
        gateway, selector = self._routes[query.number]
        if self.gateways and not query.offline and not self._admitted(query, gateway):
            return
        delay_s = next(self._to_selector) + (self._linger_s(query) if self._machine is not None else 0.0)
        self._events.after(delay_s, self.selector_of(query, selector).take, query)

    def _linger_s(self, query: SimulatedQuery) -> float:
        """Return the seconds for which its client keeps a query, so that others go with it."""
        machine, now = self._machine, self._events.now
        assert machine is not None, "called for a shared machine only"
        machine.arrived()
        if query.offline:
            return 0.0
        left_s = None if query.query.deadline_ms is None else query.deadline_s - now
        kept_s = self._linger.linger_s(now, left_s, machine.used())
        if not kept_s or now >= self._sent_at_s:
            self._sent_at_s = now + kept_s
        return self._sent_at_s - now

    def selector_of(self, query: SimulatedQuery, drawn: int) -> SimulatedSelector:
        """Return the selector of a query by the number that was drawn for it: each selector reads each task."""
        return self.selectors[drawn]

    def held(self) -> int:
        """Return the number of offline queries that selectors hold."""
        return sum(selector.waiting_offline.total() for selector in self.selectors)

    def stop_scaling_until(self, time_s: float) -> None:
        """Make no scaling decision until `time_s`."""
        self.autoscaler.stop_until(time_s)

    def worker_died(self, name: str) -> None:
        """Stop the heartbeat of a worker, and start its process again."""
        self.autoscaler.rows.stop_heartbeat(name, self._events.now)
        self.launcher.restart(name)

    # -- gateways ------------------------------------------------------------------------------------------------------

    def _admitted(self, query: SimulatedQuery, gateway: int) -> bool:
        query.gateway = gateway
        rejected, reason = self.gateways[gateway].admit(query, self._events.now)
        if reason is not None:
            self._outcomes.ended(query.number, QueryOutcome.REFUSED, self._events.now, reason)
            return False
        if rejected:
            query.report(rejected)
        return True

    def _answered(self, query: SimulatedQuery, outcome: QueryOutcome) -> None:
        self.gateways[query.gateway].answered(query, outcome, self._events.now)

    def _refused(
        self, query: SimulatedQuery, outcome: QueryOutcome, reason: RefusalReason | None, retry_after_s: float | None
    ) -> None:
        now = self._events.now
        self._outcomes.ended(query.number, outcome, now, reason)
        if query.gateway >= 0:
            gateway = self.gateways[query.gateway]
            if outcome is QueryOutcome.EXPIRED:
                gateway.answered(query, outcome, now)
            else:
                gateway.refused(query, retry_after_s, now)

    # -- records between the services ----------------------------------------------------------------------------------

    def _publish(self, status: WorkerStatus) -> None:
        if self._events.now < self.statuses_stop_until:
            return
        for selector in self.selectors:
            self._events.after(next(self._status), selector.on_status, status)
        self._events.after(next(self._status), self.autoscaler.on_status, status)

    def _demand(self, variant: str) -> None:
        self._events.after(next(self._status), self.autoscaler.on_demand, variant)

    def _report(self, load: SelectorLoad) -> None:
        self._events.after(next(self._status), self.autoscaler.on_load, load)

    def _register(self, catalog: Catalog) -> None:
        for selector in self.selectors:
            selector.register(catalog.variants.values(), catalog.profiles)

    def _held_by_task(self) -> Counter[str]:
        return sum((selector.waiting_offline for selector in self.selectors), Counter[str]())
