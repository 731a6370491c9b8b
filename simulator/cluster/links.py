"""Links of a simulated worker to the rest of the simulation."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.status import InstanceState, WorkerStatus
from simulator.cluster.machine import SharedMachine
from simulator.cluster.query import SimulatedQuery
from simulator.events import EventQueue
from simulator.outcomes import QueryOutcome
from simulator.scenario import Workers


@dataclass(frozen=True, slots=True)
class WorkerLinks:
    """Clock, settings and receivers of what a worker sends."""

    events: EventQueue
    settings: Workers
    answer: Callable[[SimulatedQuery, QueryOutcome], None]
    """Gets the outcome of each query."""
    publish: Callable[[WorkerStatus], None]
    """Gets each status."""
    report_state: Callable[[str, str, InstanceState], None]
    """Gets variant, worker and new state of an instance, for the row."""
    machine: SharedMachine | None
    """Machine that all workers share; None: each has one of its own."""
