"""Choice of the instance that answers a query: steps, of which the first that finds a choice decides.

Pure: query, cluster state, time and configuration come in; a choice or a refusal comes out.

    1  cheapest    the cheapest loaded variant in time for which the query waits at most half as long as it could;
                   without one, the cheapest in time. Charged is the cheapest in time. Of its replicas the soonest is
                   taken, or that of some if there are many or other selectors read the task (`replicas.py`). An upgrade
                   may take its place. If a version on trial (canary) draws the query, its cheapest in time goes first
    2  cold start  if nothing loaded is fast enough: the cheapest variant whose load and inference still fit
    3  soonest     for a query that may be late or has no deadline: the soonest of all loaded
    4  fallback    the same without anything loaded: a variant that is likely to be loaded
    -  refusal     at once, because a query that will be late delays others, see `selector.policy.choice`

A query is also refused at once, with the reason, if no worker can load a suitable variant, even if it could wait.

`prediction.py` predicts finish times and idle instances. A query without a deadline goes to the cheapest that answers
within `default_latency_s`, else to the soonest. An interfered instance only has a slower prediction: dearer
variants on the same worker would be slowed as well, and take more of it.

Upgrade: a query for the cheapest variant may go, at the same price, to a more accurate instance that is loaded and
nearly idle. Of many more accurate variants only the first few are examined, without those whose replicas cannot take
one at present, as an earlier query found (`barred_until`).

After INFaaS's algorithm 1, with deliberate differences. INFaaS picks the least loaded worker of the variant with the
lowest latency, not the cheapest that fits; it measures load as queries per second, two seconds old; and it answers late
instead of refusing.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

import msgspec

from schemas.query import Query
from selector.policy.candidates import Candidate, Candidates, TaskCandidates
from selector.policy.choice import (
    FOREVER_S,
    Choice,
    ChoiceContext,
    PolicyConfig,
    Refusal,
    context_of,
    refuse,
    to_unloaded,
    unknown,
)
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.generative import choose_generative
from selector.policy.prediction import bars_upgrades, cold_start_finish_s, finish_s, idle_finish_s, upgraded_share
from selector.policy.replicas import FEW, ReplicaGroup, two_of
from selector.policy.variants import PricedVariant

_MOST_UPGRADES: Final = 16
"""Number of more accurate variants that are examined for an upgrade."""
_UPGRADED: Final = 0.8
"""Share of the time to the deadline that an upgrade may take. Nobody asked for it, so a batch that takes longer than
predicted must not be late for it.
"""
_BARRED_S: Final = 0.1
"""Seconds for which replicas that take no upgrades are not examined again: the interval of their statuses."""
_NEAR: Final = 0.5
"""Share of the time to the deadline within which a replica of the aperture is taken; beyond it, all are examined."""
_PROMPT: Final = 0.5
"""Share of the longest possible wait up to which the cheapest variant is taken at once."""
_MICROSECONDS: Final = 1e6
_32_BITS: Final = 0xFFFFFFFF


def choose(
    query: Query, state: ClusterState, now: float, config: PolicyConfig, wait_s: float = FOREVER_S
) -> Choice | Refusal:
    """Choose the destination of `query` at `now`, in monotonic seconds. Changes nothing but caches.

    `wait_s` is its limit of waiting behind others under overload, see `selector.admission.overload`.
    """
    context = context_of(query, state, now, config, wait_s)
    if context is None:
        return unknown(query, state.seen_in(query))
    if context.task.is_generative:
        return choose_generative(context)
    for step in _STEPS:
        choice = step(context)
        if choice is not None:
            return choice
    return refuse(context)


# -- 1 cheapest --------------------------------------------------------------------------------------------------------


def cheapest_in_time(context: ChoiceContext) -> Choice | None:
    """Return the cheapest choice in time, or the one of a canary that draws the query and is in time.

    Without one the serving version answers. So a canary gets its share only up to its capacity.
    """
    served = _cheapest(context, context.candidates)
    task = context.task
    if task.canaries and task.may_draw(context.query):
        drawn = drawn_candidates(task, context.query, served and served.variant, context.candidates.latency_s)
        return (drawn and _cheapest(context, drawn)) or served
    return served


def drawn_candidates(
    task: TaskCandidates, query: Query, chosen: PricedVariant | None, latency_s: float
) -> Candidates | None:
    """Return the candidates of the canary that must answer instead of `chosen`; None if no canary draws the query."""
    rollout = task.drawn(query, chosen)
    if rollout is None:
        return None
    needs = msgspec.structs.replace(query.needs, target=rollout.candidate_target)
    return task.candidates(needs, query.batch, latency_s)


def _cheapest(context: ChoiceContext, candidates: Candidates) -> Choice | None:
    """Return the cheapest of the candidates in time, or its upgrade."""
    tried: set[str] = set()
    cheapest: Choice | None = None
    for candidate in candidates.serving:
        replicas = candidate.replicas
        if replicas.is_shared:
            found = _preferred_replica(context, candidate, tried)
        else:
            found = _soonest_replica(context, candidate, replicas.group, context.slack_s, tried)
        if found is not None:
            if cheapest is None:
                cheapest = found
            if _is_prompt(context, found):
                found = _at_price_of(cheapest, found)
                return _upgrade(context, found, candidates) or found
        tried.add(candidate.variant.name)
    return cheapest


def _preferred_replica(context: ChoiceContext, candidate: Candidate, tried: Collection[str]) -> Choice | None:
    """Return the soonest replica in time of the selector's aperture, or of all if it leaves little of the time."""
    replicas, limit_s = candidate.replicas, context.slack_s
    found = _soonest_replica(context, candidate, replicas.preferred(context.now), limit_s, tried)
    if found is None:
        return _soonest_replica(context, candidate, replicas.group, limit_s, tried)
    if found.predicted_s <= _NEAR * limit_s:
        return found
    return _soonest_replica(context, candidate, replicas.group, found.predicted_s, tried) or found


def _is_prompt(context: ChoiceContext, choice: Choice) -> bool:
    """Return true if a query waits for less than half of the time that it could: queues have room for others then."""
    if choice.predicted_s <= _PROMPT * context.slack_s:
        return True
    assert choice.instance is not None
    alone_s = idle_finish_s(choice.instance, context.batch)
    return choice.predicted_s - alone_s <= _PROMPT * (context.slack_s - alone_s)


def _at_price_of(cheapest: Choice, found: Choice) -> Choice:
    """Return a choice that is charged as the cheapest in time, which it replaces."""
    if found is cheapest:
        return found
    return Choice(
        found.variant, found.partition, found.instance, found.predicted_s, cheapest.cost, cheapest.cost_header,
        upgraded=found.variant.accuracy > cheapest.variant.accuracy,
    )  # fmt: skip


def _soonest_replica(
    context: ChoiceContext, candidate: Candidate, group: ReplicaGroup, limit_s: float, tried: Collection[str] = ()
) -> Choice | None:
    """Return the replica that finishes first, of those examined, if it does before `limit_s`.

    Replicas on workers of a `tried` cheaper variant that alone would be as fast count only with free slots there: an
    overloaded worker must not answer fewer queries by computing dearer variants.
    """
    instances: Sequence[Instance] = group.members.items
    if len(instances) > FEW:
        instances = _drawn(context, group, limit_s)
    now, batch, offline = context.now, context.batch, context.offline
    due_s = context.query.due_s
    best: Instance | None = None
    for instance in instances:
        worker = instance.worker
        if worker.expires_at <= now:
            continue
        if instance.lacks_slot and worker.free_at[0] - now - worker.later_s[0] > limit_s:
            continue
        if tried and instance.is_blocked(now) and _is_slower(instance, tried, batch):
            continue
        finish = finish_s(instance, batch, now, offline, due_s)
        if finish < limit_s or (finish == limit_s and best is None):
            best, limit_s = instance, finish
    if best is None:
        return None
    if context.wait_s != FOREVER_S and limit_s - idle_finish_s(best, batch) > context.wait_s:
        return None
    return Choice(candidate.variant, best.next_partition, best, limit_s, candidate.cost, candidate.cost_header)


def _drawn(context: ChoiceContext, group: ReplicaGroup, limit_s: float) -> Sequence[Instance]:
    """Return the replicas of a large group to examine, see `selector.policy.replicas`; none if none can be in time.

    If the soonest has work that the query may overtake, another one may have more of it.
    """
    if group.idle.items:
        return two_of(group.idle.items, _seed(context))
    first = group.soonest()
    if first is not None and not first.worker.later_s[0]:
        soonest_s = finish_s(first, context.batch, context.now, context.offline)
        if soonest_s > limit_s:
            return ()
    drawn = two_of(group.members.items, _seed(context))
    return drawn if first is None else (*drawn, first)


def _is_slower(instance: Instance, tried: Collection[str], batch: int) -> bool:
    """Return true if one of the `tried` variants is loaded on the same worker and takes no longer there alone."""
    alone_s = idle_finish_s(instance, batch)
    for name, other in instance.worker.instances.items():
        if name in tried and idle_finish_s(other, batch) <= alone_s:
            return True
    return False


def _upgrade(context: ChoiceContext, choice: Choice, candidates: Candidates) -> Choice | None:
    """Return a choice of a more accurate, nearly idle instance at the price of `choice`; None if there is none."""
    config, now, batch, accuracy = context.config, context.now, context.batch, choice.variant.accuracy
    if not config.upgrades or context.offline:
        return None
    for candidate in islice(candidates.upgrades, _MOST_UPGRADES):
        if candidate.variant.accuracy <= accuracy:
            return None
        replicas = candidate.replicas
        if replicas.barred_until > now:
            continue
        group = replicas.preferred(now) if replicas.is_shared else replicas.group
        instances: Sequence[Instance] = group.members.items
        if len(instances) > FEW:
            idle = group.idle.items
            instances = (idle[_seed(context) % len(idle)],) if idle else ()
        for instance in instances:
            share = upgraded_share(instance, batch, now, config.upgrade_cpu_limit)
            if share > 0.0 and replicas.is_shared:
                share /= replicas.senders
            if share > 0.0 and (share >= 1.0 or _seed(context) < share * (1 << 32)):
                finish = finish_s(instance, batch, now, due_s=context.query.due_s)
                if finish <= _UPGRADED * context.slack_s:
                    return Choice(
                        candidate.variant, instance.next_partition, instance, finish, choice.cost, choice.cost_header,
                        upgraded=True,
                    )  # fmt: skip
        if len(group.members) <= FEW and all(bars_upgrades(one, 1, now, config.upgrade_cpu_limit) for one in instances):
            replicas.barred_until = now + _BARRED_S
    return None


def _seed(context: ChoiceContext) -> int:
    """Return 32 bits by query and time: a repeated decision draws again, and tests can reproduce it."""
    return crc32(context.query.id.encode(), int(context.now * _MICROSECONDS) & _32_BITS)


# -- 2 cold start ------------------------------------------------------------------------------------------------------


def cold_start_in_time(context: ChoiceContext) -> Choice | None:
    """Return the cheapest variant that is loaded and answers before the deadline, if no loaded one is fast enough."""
    if context.query.deadline_ms is None or _is_fast_enough_alone(context):
        return None
    for candidate in context.candidates.registered.unloaded:
        variant = candidate.variant
        if variant.load_s < context.slack_s:
            finish = cold_start_finish_s(variant, context.batch, context.state)
            if finish <= context.slack_s:
                return to_unloaded(context, candidate, finish)
    return None


def _is_fast_enough_alone(context: ChoiceContext) -> bool:
    """Return true if a loaded instance is fast enough and only too busy.

    Another variant loaded beside it would take time from it; the autoscaler decides if there is room for more.
    """
    for candidate in context.candidates.serving:
        for instance in candidate.replicas.group.members.items[:FEW]:
            alone_s = idle_finish_s(instance, context.batch)
            if alone_s <= context.slack_s and instance.worker.expires_at > context.now:
                return True
    return False


# -- 3 soonest, 4 fallback ---------------------------------------------------------------------------------------------


def soonest(context: ChoiceContext) -> Choice | None:
    """Return the loaded instance that finishes first, for a query that may be late."""
    if context.firm or context.wait_s != FOREVER_S:
        return None
    best: Choice | None = None
    for candidate in context.candidates.serving:
        limit_s = FOREVER_S if best is None else best.predicted_s
        found = _soonest_replica(context, candidate, candidate.replicas.group, limit_s)
        if found is not None and (best is None or found.predicted_s < best.predicted_s):
            best = found
    return best


def fallback(context: ChoiceContext) -> Choice | None:
    """Return a variant that is likely to be loaded soon, for a query that may be late."""
    if context.firm or context.wait_s != FOREVER_S:
        return None
    candidate = context.candidates.registered.fallback
    if candidate is None:
        return None
    return to_unloaded(context, candidate, cold_start_finish_s(candidate.variant, context.batch, context.state))


_STEPS: Final = (cheapest_in_time, cold_start_in_time, soonest, fallback)
