"""One simulation: a trace arrives at a system under test, on one virtual clock.

    arrival -> (gateway) -> task topic -> selector -> variant's partition -> worker -> batch -> answer

Reproducible: a scenario with its seed determines every outcome. Each component draws from a random stream of its own,
so that a change in one does not shift the draws of the others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.query import Needs, Query
from simulator.cluster.cluster import Cluster
from simulator.cluster.query import SimulatedQuery
from simulator.end_check import check_end
from simulator.events import EventQueue
from simulator.faults import inflict
from simulator.history import FleetSample, sample_fleet
from simulator.outcomes import Outcomes, QueryColumns
from simulator.scenario import InflictedFault, Scenario
from simulator.services.infaas import InfaasSystem
from simulator.system import SimulatedSystem, SimulationContext
from simulator.trace import QueryKind

BEGIN_S: Final = 10.0
"""Virtual time of a trace's start; the services run from 0 on, so that statuses and loads are known by then."""
_SAMPLES: Final = 1200
_LEAST_INTERVAL_S: Final = 1.0
_PROGRESS_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ScaleChange:
    """Change of the scale."""

    at_s: float
    """Seconds of the trace; negative before its start."""
    action: str
    name: str
    """Variant or hardware."""
    worker: str
    """Worker; for `want`, the number of workers."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """Result of a simulation. Times are seconds of the trace."""

    scenario: Scenario
    queries: QueryColumns
    samples: tuple[FleetSample, ...]
    usd: float
    """Price of the workers from the end of the warm-up to the end of the trace."""
    changes: tuple[ScaleChange, ...]
    events: int
    """Events that were simulated."""
    wall_s: float
    """Seconds that the simulation took on this machine."""


def simulate(
    scenario: Scenario,
    system: Callable[[SimulationContext], SimulatedSystem] = InfaasSystem,
    progress: Callable[[int], None] | None = None,
) -> SimulationResult:
    """Simulate a scenario.

    Args:
        scenario: the scenario.
        system: makes the system that gets the queries: INFaaS, or a baseline.
        progress: called now and then with the number of queries that have arrived.

    Raises:
        InvariantError: the simulation has broken one of the numbered invariants.
        OperatorError: the scenario does not fit together.
    """
    return Simulation(scenario, system).run(progress)


class Simulation:
    """State of one simulation."""

    def __init__(
        self, scenario: Scenario, system: Callable[[SimulationContext], SimulatedSystem] = InfaasSystem
    ) -> None:
        self.scenario = scenario
        self.events = EventQueue()
        self.outcomes = Outcomes(len(scenario.trace))
        of_cluster, of_system = np.random.Generator(np.random.PCG64(np.random.SeedSequence(scenario.seed))).spawn(2)
        self.cluster = Cluster(scenario, self.events, self.outcomes, of_cluster)
        self.system = system(SimulationContext(scenario, self.events, self.outcomes, self.cluster, of_system))
        self.samples: list[FleetSample] = []
        self._stepped = 0
        self._first_usd = 0.0

    def run(self, progress: Callable[[int], None] | None = None) -> SimulationResult:
        """Run to the end."""
        began, scenario, events = time.perf_counter(), self.scenario, self.events
        self.system.begin()
        for fault in scenario.faults:
            events.at(BEGIN_S + fault.at_s, self._inflict, fault)
        events.at(BEGIN_S, self._sample)
        events.at(BEGIN_S + scenario.warm_up_s, self._end_warm_up)
        self._run_until(BEGIN_S)
        self._arrive_all(progress or (lambda _: None))
        usd = self.cluster.usd_now()
        self._drain(events.now + scenario.drain_s)
        check_end(scenario.trace, self.outcomes, self.cluster, self.system)
        return SimulationResult(
            scenario=scenario,
            queries=self.outcomes.columns(BEGIN_S),
            samples=tuple(self.samples),
            usd=usd - self._first_usd,
            changes=tuple(ScaleChange(at_s - BEGIN_S, *rest) for at_s, *rest in self.system.changes),
            events=self._stepped,
            wall_s=time.perf_counter() - began,
        )

    def _run_until(self, time_s: float) -> None:
        events = self.events
        while events.next_s <= time_s:
            events.step()
            self._stepped += 1
        events.now = time_s

    def _arrive_all(self, progress: Callable[[int], None]) -> None:
        trace, events, run_until, arrive = self.scenario.trace, self.events, self._run_until, self.system.arrive
        templates = [_Template(kind) for kind in trace.kinds]
        shown = time.perf_counter()
        for number in range(len(trace)):
            time_s = float(trace.time_s[number]) + BEGIN_S
            if events.next_s <= time_s:
                run_until(time_s)
            events.now = time_s
            arrive(SimulatedQuery(number, templates[trace.kind[number]].query(number, time_s)))
            if not number % 256 and time.perf_counter() - shown > _PROGRESS_S:
                shown = time.perf_counter()
                progress(number)

    def _drain(self, until_s: float) -> None:
        """Run until all queries are answered, or for the longest time."""
        events = self.events
        while self.outcomes.open and events.next_s <= until_s:
            events.step()
            self._stepped += 1

    def _inflict(self, fault: InflictedFault) -> None:
        inflict(fault, self.cluster, self.system)

    def _end_warm_up(self, _argument: object) -> None:
        self._first_usd = self.cluster.usd_now()

    def _sample(self, _argument: object) -> None:
        duration_s, now = self.scenario.trace.duration_s, self.events.now
        self.samples.append(sample_fleet(self.cluster, self.system.held(), now - BEGIN_S))
        if now - BEGIN_S < duration_s:
            self.events.after(max(duration_s / _SAMPLES, _LEAST_INTERVAL_S), self._sample)


class _Template:
    """A kind of query, prepared for the creation of many queries."""

    __slots__ = ("_batch", "_latency_ms", "_needs", "_task", "_tenant")

    def __init__(self, kind: QueryKind) -> None:
        self._needs = Needs(
            latency_ms=kind.latency_ms,
            min_accuracy=kind.min_accuracy,
            max_cost=kind.max_cost,
            mode=kind.mode,
            target=kind.target,
        )
        self._task, self._batch, self._tenant, self._latency_ms = kind.task, kind.batch, kind.tenant, kind.latency_ms

    def query(self, number: int, time_s: float) -> Query:
        """Return the query of this number that arrives at `time_s`."""
        sent_ms, latency_ms = time_s * 1e3, self._latency_ms
        return Query(
            id=str(number),
            task=self._task,
            reply_to="",
            sent_ms=sent_ms,
            deadline_ms=None if latency_ms is None else sent_ms + latency_ms,
            needs=self._needs,
            batch=self._batch,
            tenant=self._tenant,
        )
