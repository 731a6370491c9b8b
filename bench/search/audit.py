"""Audit of refusals: those of queries for which an instance was idle that would have answered in time."""

from collections.abc import Iterator

from selector.policy.choice import Refusal
from selector.policy.entities import Instance
from selector.policy.prediction import idle_finish_s
from simulator.cluster.query import SimulatedQuery
from simulator.services.selector import SimulatedSelector


def audited_selector(found: list[int]) -> type[SimulatedSelector]:
    """Return a type of selector that adds to `found` the number of each query that it refuses in vain."""

    class AuditedSelector(SimulatedSelector):
        """Selector that looks at the true state of the cluster before it refuses."""

        def _refuse_query(self, taken: SimulatedQuery, refusal: Refusal) -> None:
            if refusal.contended is not None and any(self._able(taken)):
                found.append(taken.number)
            super()._refuse_query(taken, refusal)

        def _able(self, taken: SimulatedQuery) -> Iterator[Instance]:
            """Yield the instances that are idle and would answer in time."""
            query, now = taken.query, self._events.now
            task = self.state.seen_in(query)
            slack_s = taken.deadline_s - now
            if task is None:
                return
            for candidate in task.candidates(query.needs, query.batch, slack_s).serving:
                for instance in candidate.replicas:
                    if self._is_idle(instance) and idle_finish_s(instance, query.batch) <= slack_s:
                        yield instance

        def _is_idle(self, instance: Instance) -> bool:
            worker = self._cluster.workers.get(instance.worker.name)
            actual = None if worker is None else worker.instances.get(instance.variant.name)
            if worker is None or actual is None or not actual.online:
                return False
            waits = actual.held or any(log.lag for log in actual.online.values())
            return not waits and worker.busy + actual.width <= worker.hardware.slots

    return AuditedSelector
