"""The simulated cluster: variants, workers, and the ways of queries, statuses and answers between them."""

from collections.abc import Callable
from itertools import count

import numpy as np

from schemas.status import InstanceState, WorkerStatus
from simulator.cluster.links import WorkerLinks
from simulator.cluster.machine import SharedMachine
from simulator.cluster.partition_log import PartitionLog
from simulator.cluster.query import SimulatedQuery
from simulator.cluster.variant import SimulatedVariant
from simulator.cluster.worker import SimulatedWorker
from simulator.durations import draws
from simulator.events import EventQueue
from simulator.outcomes import Outcomes, QueryOutcome
from simulator.scenario import Scenario

StatusListener = Callable[[WorkerStatus], None]


class Cluster:
    """Workers and partitions of one simulation."""

    def __init__(self, scenario: Scenario, events: EventQueue, outcomes: Outcomes, random: np.random.Generator) -> None:
        self.scenario = scenario
        self.events = events
        self.outcomes = outcomes
        rows, profiles = scenario.catalogue.rows()
        streams = random.spawn(len(rows) + 1)
        self.variants = {
            name: SimulatedVariant(number, row, profiles[name], streams[number])
            for number, (name, row) in enumerate(rows.items())
        }
        self.hardware = {one.name: one for one in scenario.catalogue.hardware}
        self.workers: dict[str, SimulatedWorker] = {}
        """Workers that are up, by name."""
        self.usd_per_hour = 0.0
        """Price of the workers that are up or start."""
        self._usd = 0.0
        """Price of all workers until `_charged_s`."""
        self._charged_s = events.now
        self.ended: Callable[[SimulatedQuery, QueryOutcome], None] | None = None
        """Called when a client has an answer, for gateways."""
        self.state_changed: Callable[[str, str, InstanceState], None] | None = None
        """Called with variant, worker and new state of an instance."""
        self._listeners: list[StatusListener] = []
        delays = [scenario.delays.to_worker, scenario.delays.result]
        self._to_worker, self._result = (
            draws(delay, stream) for delay, stream in zip(delays, streams[-1].spawn(2), strict=True)
        )
        self._epochs = count(1)
        self.machine = None if scenario.machine is None else SharedMachine(scenario.machine, events)
        self._links = WorkerLinks(
            events, scenario.workers, self.answer, self._publish, self._report_state, self.machine
        )

    # -- queries -------------------------------------------------------------------------------------------------------

    def send(self, query: SimulatedQuery, log: PartitionLog) -> int:
        """Send a query to a partition; return its offset."""
        offset = log.append(query)
        if self.machine is not None:
            self.machine.forwarded()
        query.sent_s = self.events.now
        self.events.after(next(self._to_worker), self._arrived, (query, log))
        return offset

    def _arrived(self, sent: tuple[SimulatedQuery, PartitionLog]) -> None:
        query, log = sent
        log.waiting.append(query)
        if log.owner is not None:
            log.owner.read(log)

    def answer(self, query: SimulatedQuery, outcome: QueryOutcome) -> None:
        """Return an outcome to the client of a query."""
        at_s = self.events.now + next(self._result)
        if outcome is QueryOutcome.ANSWERED and at_s > query.deadline_s:
            outcome = QueryOutcome.LATE
        if self.ended is None or query.gateway < 0:
            self.outcomes.ended(query.number, outcome, at_s)
        else:
            self.events.at(at_s, self._returned, (query, outcome))

    def _returned(self, answer: tuple[SimulatedQuery, QueryOutcome]) -> None:
        query, outcome = answer
        self.outcomes.ended(query.number, outcome, self.events.now)
        if self.ended is not None:
            self.ended(query, outcome)

    # -- workers -------------------------------------------------------------------------------------------------------

    def add_worker(self, name: str, hardware: str) -> SimulatedWorker:
        """Add a worker that is up."""
        worker = SimulatedWorker(name, self.hardware[hardware], next(self._epochs), self._links)
        self.workers[name] = worker
        return worker

    def charge(self, hardware: str, workers: int) -> None:
        """Charge for this many more workers (fewer, if negative) from now on."""
        self._usd = self.usd_now()
        self._charged_s = self.events.now
        self.usd_per_hour += workers * self.hardware[hardware].price_per_hour

    def usd_now(self) -> float:
        """Return the price in USD of all workers until now, from the start of each to its end."""
        return self._usd + self.usd_per_hour * (self.events.now - self._charged_s) / 3600

    def listen(self, listener: StatusListener) -> None:
        """Call `listener` with each published status."""
        self._listeners.append(listener)

    def _publish(self, status: WorkerStatus) -> None:
        for listener in self._listeners:
            listener(status)

    def _report_state(self, variant: str, worker: str, state: InstanceState) -> None:
        if self.state_changed is not None:
            self.state_changed(variant, worker, state)
