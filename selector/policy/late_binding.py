"""Choice of an instance for an offline query: the cheapest idle one that meets its needs, else none yet.

Pure, like the policy: query, cluster state, time and configuration come in. An instance is idle when no online query
waits there, its worker has a slot free of online queries, and its offline backlog is below a limit. A dearer instance
takes a query only if it takes no slot from a cheaper one.

Forwarded offline queries wait in the variant's offline topic, from which the worker reads only when it has nothing else
to do. So they delay no online query, and their computing time need not be predicted. But a forwarded query is bound to
one replica, which may be busy by then. So an instance gets only as much as keeps it busy for two status intervals.
While its worker has online queries, it gets a tenth of that, because forwarding takes CPU as well.

A query that cannot be answered, or has passed its deadline, is refused like an online query. If it can be answered but
no instance serves, it waits until one is loaded.
"""

import math
from typing import Final
from zlib import crc32

import msgspec

from schemas.errors import Overloaded
from schemas.query import Mode, Needs, Query
from selector.policy.candidates import Candidate, Candidates, TaskCandidates
from selector.policy.choice import Choice, ChoiceContext, PolicyConfig, Refusal, context_of, deadline_passed
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance, Worker
from selector.policy.prediction import finish_s
from selector.policy.replicas import some_of
from selector.policy.selection import choose, drawn_candidates
from selector.policy.variants import PricedVariant

_UNNOTICED_S: Final = 0.002
"""Seconds of online work up to which a worker still counts as idle."""
_AHEAD_S: Final = 0.2
"""Seconds of offline work that an instance may have in its backlog: two status intervals."""
_AHEAD_OF_BUSY_S: Final = 0.02
_QUIET_S: Final = 0.1
"""Seconds after an online query during which more are expected at the same worker."""
_LEAST_INPUT_S: Final = 50e-6
"""Least seconds per input, whatever the model, for reading and answering it."""
_LOOK_S: Final = 0.1
"""Seconds until an instance is looked at again without a new status."""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """No instance that may answer the query is idle."""

    retry_s: float = _LOOK_S
    """Seconds after which to try again."""
    wanted: PricedVariant | None = None
    """Variant to load, if no instance serves that may answer the query."""


def bind(query: Query, state: ClusterState, now: float, config: PolicyConfig) -> Choice | Refusal | Wait:
    """Choose the destination of an offline query at `now`, if it can go now."""
    context = context_of(query, state, now, config)
    if context is not None and context.firm and context.slack_s <= 0:
        return deadline_passed("an instance was idle")
    if context is not None and context.candidates.serving:
        return _of_drawn_version(context, _cheapest_idle(context.candidates, query, now))
    outcome = choose(query, state, now, config)
    if isinstance(outcome, Choice):
        return Wait(wanted=outcome.variant)
    if isinstance(outcome.error, Overloaded):
        return Wait(wanted=outcome.wanted)
    return outcome


class LateBinder:
    """Chooser of one pass over the waiting offline queries; alike ones that have to wait need only one evaluation."""

    def __init__(self, state: ClusterState, config: PolicyConfig) -> None:
        self._state = state
        self._config = config
        self._waits: dict[tuple[object, ...], Wait] = {}

    @property
    def retry_s(self) -> float:
        """Seconds until the next pass; infinite if no query had to wait."""
        return min((wait.retry_s for wait in self._waits.values()), default=math.inf)

    def bind(self, query: Query, now: float) -> Choice | Refusal | Wait:
        """Choose the destination of a query at `now`, if it can go now."""
        alike = query.task, query.needs, query.batch, self._state.tenant_class_of(query)
        found = self._waits.get(alike)
        if found is not None and (query.deadline_ms is None or query.deadline_ms / 1000 > now):
            return found
        outcome = bind(query, self._state, now, self._config)
        if isinstance(outcome, Wait):
            self._waits[alike] = outcome
        return outcome


def bind_copy(task: TaskCandidates, query: Query, chosen: PricedVariant, now: float) -> Choice | None:
    """Choose the destination of a shadow copy of a query that `chosen` answers; None if none is idle or wanted."""
    for rollout in task.shadows:
        if rollout.concerns(query.needs.target) and task.is_version_of(rollout, chosen):
            if not rollout.copies(query.id):
                return None
            needs = Needs(target=rollout.candidate_target, mode=Mode.OFFLINE)
            found = _cheapest_idle(task.candidates(needs, query.batch, math.inf), query, now)
            return found if isinstance(found, Choice) else None
    return None


def _of_drawn_version(context: ChoiceContext, found: Choice | Wait) -> Choice | Wait:
    """Return an idle choice of the canary that draws the query, else `found`."""
    task, query = context.task, context.query
    if task.canaries:
        chosen = found.variant if isinstance(found, Choice) else None
        tried = drawn_candidates(task, query, chosen, context.candidates.latency_s)
        drawn = tried and _cheapest_idle(tried, query, context.now)
        if isinstance(drawn, Choice):
            return drawn
    return found


def _cheapest_idle(candidates: Candidates, query: Query, now: float) -> Choice | Wait:
    cheaper = set[Worker]()
    retry_s = _LOOK_S
    for candidate in candidates.serving:
        seen = some_of(candidate.replicas.group, crc32(query.id.encode()))
        for instance in seen:
            if instance.worker in cheaper and not instance.worker.has_free_slots(instance.width, now):
                continue
            if not _has_room(instance, query.batch, now):
                continue
            if _is_free_of_online(instance, now):
                return _choice(candidate, instance, query, now)
            retry_s = min(retry_s, max(instance.waiting(now) / instance.rate, _UNNOTICED_S))
        cheaper.update(instance.worker for instance in seen)
    return Wait(retry_s)


def _has_room(instance: Instance, inputs: int, now: float) -> bool:
    """Return true if an instance may get `inputs` more; a query larger than the limit goes alone."""
    if not instance.offline_partitions:
        return False
    input_s = max(instance.input_s * instance.slowdown / instance.parallel, _LEAST_INPUT_S)
    ahead_s = _AHEAD_S if now - instance.worker.online_at > _QUIET_S else _AHEAD_OF_BUSY_S
    enough = 2 * instance.parallel * instance.model.max_batch + ahead_s / input_s
    return instance.offline_inputs + inputs <= enough or instance.offline_inputs <= 0.0


def _is_free_of_online(instance: Instance, now: float) -> bool:
    worker = instance.worker
    return (
        worker.expires_at > now
        and instance.waiting(now) < 1.0
        and not instance.large_inputs
        and not instance.lacks_slot
        and worker.mean_wait_s(now) <= _UNNOTICED_S
    )


def _choice(candidate: Candidate, instance: Instance, query: Query, now: float) -> Choice:
    partition = instance.offline_partitions[instance.turn % len(instance.offline_partitions)]
    predicted_s = finish_s(instance, query.batch, now, offline=True)
    return Choice(candidate.variant, partition, instance, predicted_s, candidate.cost, candidate.cost_header)
