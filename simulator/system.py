"""System under simulation: what becomes of a query from its arrival on. INFaaS is one, each baseline another."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from simulator.cluster.cluster import Cluster
from simulator.cluster.query import SimulatedQuery
from simulator.events import EventQueue
from simulator.outcomes import Outcomes
from simulator.scenario import Scenario
from simulator.services.launcher import SimulatedLauncher

ScaleChanges: TypeAlias = list[tuple[float, str, str, str, str]]
"""Time, action, variant or hardware, worker or number, and reason of each change of the scale."""


@dataclass(frozen=True, slots=True)
class SimulationContext:
    """Parts of a simulation that every system uses."""

    scenario: Scenario
    events: EventQueue
    outcomes: Outcomes
    cluster: Cluster
    random: np.random.Generator
    """Source of the system's random streams."""


class SimulatedSystem(Protocol):
    """System that answers queries on the workers of a cluster."""

    launcher: SimulatedLauncher
    statuses_stop_until: float
    """Time until which no status of a worker arrives; a fault sets it."""
    changes: ScaleChanges

    def begin(self) -> None:
        """Start the initial fleet; called once, before the first event."""
        ...

    def arrive(self, query: SimulatedQuery) -> None:
        """Take a query that its client sends now."""
        ...

    def held(self) -> int:
        """Return the number of queries that wait in a queue of the system itself."""
        ...

    def stop_scaling_until(self, time_s: float) -> None:
        """Make no scaling decision until `time_s`, because of a fault."""
        ...

    def worker_died(self, name: str) -> None:
        """Take notice that a worker's process has died; it is gone from the cluster already."""
        ...
