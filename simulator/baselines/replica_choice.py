"""Other choices of a replica, within INFaaS on Kafka: variants, refusals and scale are those of production.

* `ShortestQueueSelector`: join the shortest queue (Winston, "Optimality of the Shortest Line Discipline", 1977), by the
  exact number of queries in flight of each replica, which no real selector knows.
* `PrequalSelector`: Wydrowski et al., "Load is Not What You Should Balance: Introducing Prequal", NSDI'24, section 4,
  with the parameters of its evaluation. Each query sends 3 probes to replicas that are drawn. A pool keeps up to 16
  answers for at most a second, one of each replica. A replica is hot if its requests in flight exceed the 0.84 quantile
  of recent answers. The cold replica with the lowest latency gets the query, or else the hot one with the fewest
  requests in flight. An answer counts the queries that were sent by it. Each query removes another answer, in turn the
  oldest and the worst.

Differences of Prequal: an answer serves for any number of queries meanwhile, as the paper's formula allows for pools as
large as the number of replicas. The latency in an answer is the production estimate of the worker's slots, exact at the
time of the probe, instead of the median of recent latencies.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec.structs import replace

from schemas.load_classes import SelectorLoad
from selector.policy.choice import Choice
from selector.policy.entities import Instance
from simulator.cluster.cluster import Cluster
from simulator.cluster.instance import SimulatedInstance
from simulator.durations import draws
from simulator.services.selector import Refuse, SimulatedSelector

_PROBES: Final = 3
"""Probes by query."""
_POOL: Final = 16
_LONGEST_S: Final = 1.0
_QUANTILE: Final = 2**-0.25
_RECENT: Final = 128
"""Answers of which the quantile is taken."""


class ShortestQueueSelector(SimulatedSelector):
    """Selector that joins the shortest queue."""

    def choose_replica(self, choice: Choice) -> Choice:
        """Return the choice with the replica that has the fewest queries in flight."""
        found = self.replicas(choice)
        if not found:
            return choice
        return with_replica(choice, min(found, key=lambda one: (in_flight(one[1]), one[0].worker.name))[0])

    def replicas(self, choice: Choice) -> list[tuple[Instance, SimulatedInstance]]:
        """Return the replicas of the chosen variant that this selector knows, with their present states."""
        name, workers = choice.variant.name, self._cluster.workers
        found: list[tuple[Instance, SimulatedInstance]] = []
        for worker in self.state.workers.values():
            instance, up = worker.instances.get(name), workers.get(worker.name)
            actual = None if up is None else up.instances.get(name)
            if instance is not None and instance.partitions and actual is not None and actual.online:
                found.append((instance, actual))
        return found


def with_replica(choice: Choice, instance: Instance) -> Choice:
    """Return the choice with another replica of its variant."""
    return replace(choice, instance=instance, partition=instance.next_partition)


def in_flight(instance: SimulatedInstance) -> int:
    """Return the queries that were sent to an instance and are not answered."""
    return sum(log.lag for log in instance.online.values())


@dataclass(slots=True, eq=False)
class _Probe:
    """Answer of a replica."""

    at_s: float
    instance: Instance
    in_flight: int
    latency_s: float

    def rank(self, hot: float) -> tuple[bool, float]:
        """Return the sort key of hot-cold lexicographic selection: the smallest is best."""
        is_hot = self.in_flight > hot
        return is_hot, self.in_flight if is_hot else self.latency_s


class PrequalSelector(ShortestQueueSelector):
    """Selector that chooses replicas by Prequal."""

    def __init__(
        self,
        number: int,
        cluster: Cluster,
        refuse: Refuse,
        demand: Callable[[str], None],
        report: Callable[[SelectorLoad], None],
    ) -> None:
        super().__init__(number, cluster, refuse, demand, report)
        self._random = np.random.Generator(np.random.PCG64([cluster.scenario.seed, number]))
        self._delay = draws(cluster.scenario.delays.status, self._random.spawn(1)[0])
        self._pools: defaultdict[str, list[_Probe]] = defaultdict(list)
        """Answers by variant, oldest first."""
        self._recent: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_RECENT))
        """Queries in flight in recent answers, by variant."""
        self._removes_oldest = False

    def choose_replica(self, choice: Choice) -> Choice:
        """Return the choice with the replica of the best answer, if there are answers."""
        found, name = self.replicas(choice), choice.variant.name
        for number in self._random.permutation(len(found))[:_PROBES].tolist():
            self._events.after(next(self._delay), self._probe, (name, *found[number]))
        known, since_s = {id(instance) for instance, _ in found}, self._events.now - _LONGEST_S
        pool = [one for one in self._pools[name] if one.at_s >= since_s and id(one.instance) in known]
        self._pools[name] = pool
        if not pool:
            return choice
        hot = float(np.quantile(self._recent[name], _QUANTILE))
        best = min(pool, key=lambda one: one.rank(hot))
        best.in_flight += 1
        if len(pool) > _PROBES:
            pool.remove(pool[0] if self._removes_oldest else max(pool, key=lambda one: one.rank(hot)))
            self._removes_oldest = not self._removes_oldest
        return with_replica(choice, best.instance)

    def _probe(self, probed: tuple[str, Instance, SimulatedInstance]) -> None:
        """Take the answer of a replica: its state now."""
        name, instance, actual = probed
        worker = self._cluster.workers.get(instance.worker.name)
        if worker is None or worker is not actual.worker:
            return
        backlogs_s = worker.slot_backlogs_s(self._events.now)
        latency_s = backlogs_s[actual.width - 1] + actual.work.latency.batch_s(1)
        answer = _Probe(self._events.now, instance, in_flight(actual), latency_s)
        self._recent[name].append(answer.in_flight)
        others = [one for one in self._pools[name] if one.instance is not instance]
        self._pools[name] = [*others, answer][-_POOL:]
