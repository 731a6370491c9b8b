"""Where an offline query goes, and when: to the cheapest instance that meets its needs and is idle, else nowhere yet.

Pure, as the policy: the query, the cluster state, the time and the configuration come in. An instance is idle when no
online query waits there, its worker has a slot free of online queries, and it has not enough ahead. A dearer instance
takes a query only where it takes no slot from a cheaper one.

What an instance is given ahead waits in a topic of its own, from which its worker takes it when it has nothing else to
do. So it delays nobody, and how fast it goes need not be known. But it is bound, to a replica that may be busy when its
turn comes: there is as much as keeps an instance busy until it has said twice how much is left, and no more. While its
worker has online queries, which leave it little time, there is a tenth of that: what is given takes CPU as well.

What cannot be answered at all, or has passed its deadline, is refused as an online query is. What can but has no
instance that serves waits for one to be loaded.
"""

import math
from typing import Final
from zlib import crc32

import msgspec

from schemas.errors import DeadlineExceeded, Overloaded
from schemas.needs import Mode, Needs
from schemas.query import Query
from selector.candidates import Candidate, Candidates, TaskCandidates
from selector.cluster_state import ClusterState
from selector.entities import Instance, Worker
from selector.policy import Choice, PolicyConfig, Refusal, choose, drawn_candidates, has_hard_deadline
from selector.prediction import finish_s
from selector.replicas import some_of
from selector.variants import PricedVariant

_UNNOTICED_S: Final = 0.002
"""Seconds of online work that leave a worker idle."""
_AHEAD_S: Final = 0.2
"""Seconds of work that an instance is given ahead: twice the time between two of its statuses."""
_AHEAD_OF_BUSY_S: Final = 0.02
_QUIET_S: Final = 0.1
"""Seconds after an online query in which others are expected at the same worker."""
_LEAST_INPUT_S: Final = 50e-6
"""Seconds that an input costs at least, whatever the model: it is read, and answered."""
_LOOK_S: Final = 0.1
"""Seconds after which an instance is looked at again, if its worker says nothing before."""


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Nothing is idle that may answer the query."""

    retry_s: float = _LOOK_S
    """Seconds after which to look again."""
    wanted: PricedVariant | None = None
    """Variant that should be loaded, since nothing that may answer the query serves."""


def bind(query: Query, state: ClusterState, now: float, config: PolicyConfig) -> Choice | Refusal | Wait:
    """Choose where an offline query goes at `now`, if it goes."""
    if has_hard_deadline(query) and query.deadline_ms is not None and query.deadline_ms / 1000 <= now:
        return Refusal(DeadlineExceeded("the deadline passed before an instance was idle"))
    task = state.seen_in(query)
    if task is not None and task.has_target(query.needs.target):
        slack_s = math.inf
        if has_hard_deadline(query) and query.deadline_ms is not None:
            slack_s = query.deadline_ms / 1000 - now
        candidates = task.candidates(query.needs, query.batch, slack_s)
        if candidates.serving:
            return _of_drawn_version(task, query, now, slack_s, _cheapest_idle(candidates, query, now))
    outcome = choose(query, state, now, config)
    if isinstance(outcome, Choice):
        return Wait(wanted=outcome.variant)
    if isinstance(outcome.error, Overloaded):
        return Wait(wanted=outcome.wanted)
    return outcome


def bind_copy(task: TaskCandidates, query: Query, chosen: PricedVariant, now: float) -> Choice | None:
    """Choose where a copy of a query goes that `chosen` answers; None: nothing is idle, or no copy is wanted."""
    for rollout in task.shadows:
        if rollout.concerns(query.needs.target) and task.is_version_of(rollout, chosen):
            if not rollout.copies(query.id):
                return None
            needs = Needs(target=rollout.candidate_target, mode=Mode.OFFLINE)
            found = _cheapest_idle(task.candidates(needs, query.batch, math.inf), query, now)
            return found if isinstance(found, Choice) else None
    return None


def _of_drawn_version(
    task: TaskCandidates, query: Query, now: float, slack_s: float, found: Choice | Wait
) -> Choice | Wait:
    """The choice, or one of the version that the query is drawn for if that is idle."""
    if task.canaries:
        tried = drawn_candidates(task, query, found.variant if isinstance(found, Choice) else None, slack_s)
        drawn = tried and _cheapest_idle(tried, query, now)
        if isinstance(drawn, Choice):
            return drawn
    return found


def _cheapest_idle(candidates: Candidates, query: Query, now: float) -> Choice | Wait:
    cheaper = set[Worker]()
    retry_s = _LOOK_S
    for candidate in candidates.serving:
        seen = some_of(candidate.replicas, crc32(query.id.encode()))
        for instance in seen:
            if instance.worker in cheaper and not _has_slots_for(instance, now):
                continue
            if not _has_room(instance, query.batch, now):
                continue
            if _is_free_of_online(instance, now):
                return _choice(candidate, instance, query, now)
            retry_s = min(retry_s, max(instance.waiting(now) / instance.rate, _UNNOTICED_S))
        cheaper.update(instance.worker for instance in seen)
    return Wait(retry_s)


def _has_room(instance: Instance, inputs: int, now: float) -> bool:
    """Whether an instance may be given so many inputs more; a query that is larger than all room goes alone."""
    if not instance.offline_partitions:
        return False
    input_s = max(instance.model.input_s() * instance.slowdown / instance.parallel, _LEAST_INPUT_S)
    ahead_s = _AHEAD_S if now - instance.worker.online_at > _QUIET_S else _AHEAD_OF_BUSY_S
    enough = 2 * instance.parallel * instance.model.max_batch + ahead_s / input_s
    return instance.offline_inputs + inputs <= enough or instance.offline_inputs <= 0.0


def _is_free_of_online(instance: Instance, now: float) -> bool:
    worker = instance.worker
    return (
        instance.healthy
        and worker.expires_at > now
        and instance.waiting(now) < 1.0
        and not instance.large_inputs
        and not instance.lacks_slot()
        and worker.mean_wait_s(now) <= _UNNOTICED_S
    )


def _has_slots_for(instance: Instance, now: float) -> bool:
    worker = instance.worker
    return sum(other.occupied_slots(now) for other in worker.instances.values()) + instance.width <= worker.slots


def _choice(candidate: Candidate, instance: Instance, query: Query, now: float) -> Choice:
    partition = instance.offline_partitions[instance.turn % len(instance.offline_partitions)]
    predicted_s = finish_s(instance, query.batch, now, offline=True, streamed=query.streamed)
    return Choice(candidate.variant, partition, instance, predicted_s, candidate.cost, candidate.cost_header)
