"""Mechanisms against stale views: selectors that choose replicas in another way, and other intervals of statuses."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final, NamedTuple

from schemas.rows.catalog import Profile, Variant
from selector.policy.replicas import TaskShare
from simulator.baselines.replica_choice import PrequalSelector, ShortestQueueSelector
from simulator.cluster.query import SimulatedQuery
from simulator.services.infaas import InfaasSystem
from simulator.services.selector import SimulatedSelector
from simulator.system import SimulatedSystem, SimulationContext

PRODUCTION: Final = "production: apertures"
IDEAL: Final = "true queues"
SELECTORS_A_TASK: Final = 8
INTERVAL_S: Final = 0.1
"""Interval of the statuses of a busy worker in production."""


class Mechanism(NamedTuple):
    """System, and what differs from production beside it."""

    system: Callable[[SimulationContext], SimulatedSystem]
    status_interval_s: float = INTERVAL_S
    selectors_a_task: int | None = None
    """Selectors that read a task; None: all."""


class WithoutAperture(SimulatedSelector):
    """Selector that treats all replicas alike."""

    def register(self, rows: Iterable[Variant], profiles: Mapping[str, Profile]) -> None:
        """Take a new catalogue."""
        super().register(rows, profiles)
        self.state.use_shares({})


class DividedSystem(InfaasSystem):
    """INFaaS whose tasks are each read by a group of selectors, in the order of the tasks' names."""

    def __init__(self, context: SimulationContext, *, selector: type[SimulatedSelector] = SimulatedSelector) -> None:
        """Make the services."""
        super().__init__(context, selector)
        self._groups = {kind.task: number for number, kind in enumerate(context.scenario.trace.kinds)}

    def selector_of(self, query: SimulatedQuery, drawn: int) -> SimulatedSelector:
        """Return the selector of a query's task by the number that was drawn for the query."""
        return self.selectors[self._groups[query.query.task] * SELECTORS_A_TASK + drawn % SELECTORS_A_TASK]


class GroupSelector(SimulatedSelector):
    """Selector of such a group, with its share of the group's task."""

    def share(self, number: int, selectors: int) -> TaskShare:
        """Return its share of the tasks that it reads."""
        return super().share(number % SELECTORS_A_TASK, min(selectors, SELECTORS_A_TASK))


_PLAIN: Final = partial(InfaasSystem, selector=WithoutAperture)
MECHANISMS: Final[Mapping[str, Mechanism]] = {
    PRODUCTION: Mechanism(InfaasSystem),
    "none": Mechanism(_PLAIN),
    "statuses each 25 ms": Mechanism(_PLAIN, 0.025),
    "statuses each 500 ms, apertures": Mechanism(InfaasSystem, 0.5),
    f"{SELECTORS_A_TASK} selectors a task": Mechanism(
        partial(DividedSystem, selector=WithoutAperture), selectors_a_task=SELECTORS_A_TASK
    ),
    f"{SELECTORS_A_TASK} selectors a task, apertures": Mechanism(
        partial(DividedSystem, selector=GroupSelector), selectors_a_task=SELECTORS_A_TASK
    ),
    "Prequal's probes": Mechanism(partial(InfaasSystem, selector=PrequalSelector)),
    IDEAL: Mechanism(partial(InfaasSystem, selector=ShortestQueueSelector)),
}
"""Mechanisms by name; `none` is the choice among all replicas alike, as before apertures."""
