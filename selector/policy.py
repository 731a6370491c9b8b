"""Choice of the instance that answers a query.

Pure: query, cluster state, time and configuration come in; a choice or a refusal comes out.

    loaded and meets the needs, healthy      the cheapest variant predicted in time; of its replicas the soonest,
                                             or of some if there are many, see `selector.replicas`
    loaded, overloaded                       the same, if no healthy one fits
    not loaded                               if nothing loaded is fast enough: the cheapest whose load and
                                             inference still fit
    may be late, or has no deadline          the soonest of all loaded; without any, a variant likely to be loaded
    else                                     an immediate refusal: a query that will be late delays others

A query is also refused at once, with the reason, if no worker can load a suitable variant, even if it could wait.

`selector.prediction` predicts finish times and idle instances. A query without a deadline goes to the cheapest that
answers within `default_latency_s`, else to the soonest. An interfered instance only has a slower prediction: dearer
variants on the same worker would be slowed as well, and take more of it.

Upgrade: a query for the cheapest variant may go, at the same price, to a more accurate instance that is loaded and
nearly idle.

After INFaaS's algorithm 1, with deliberate differences. INFaaS picks the least loaded worker of the variant with the
lowest latency, not the cheapest that fits; it measures load as queries per second, two seconds old; and it answers late
instead of refusing.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

import msgspec

from schemas.defaults import DEFAULT_LATENCY_S
from schemas.errors import DeadlineExceeded, ModelFailed, Overloaded, QueryError, UnknownTask, Unsatisfiable
from schemas.needs import Mode
from schemas.query import Query
from selector.candidates import Candidate, Candidates, TaskCandidates
from selector.cluster_state import ClusterState
from selector.cost import size_class
from selector.entities import Instance
from selector.partition import Partition
from selector.prediction import (
    cold_start_finish_s,
    drain_s,
    finish_s,
    has_idle_capacity,
    idle_finish_s,
    upgraded_share,
)
from selector.replicas import FEW, ReplicaGroup, two_of
from selector.variants import PricedVariant

_FOREVER_S: Final = float("inf")
_TICKS_PER_S: Final = 4_194_304  # resolution of a double in seconds since the epoch


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the policy."""

    default_latency_s: float = DEFAULT_LATENCY_S
    """Latency objective in seconds of queries that name none."""
    upgrades: bool = True
    """True if an idle, more accurate instance may take a query at the cheaper one's price."""
    upgrade_share: float = 0.5
    """Share of a worker's slots that upgrades may fill."""
    upgrade_cpu_limit: float = 0.75
    """Used share of a machine's CPU time from which on nothing is upgraded there."""
    tenants: tuple[str, ...] = ()
    """Tenants that always have a share of their own under overload."""
    max_unlisted_tenants: int = 16
    """Number of other tenants with a share of their own; the rest share one."""


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Destination of a query, with the promised values."""

    variant: PricedVariant
    partition: Partition
    instance: Instance | None
    """Instance that serves the partition; None if no worker has loaded the variant, which must be demanded."""
    predicted_s: float
    """Predicted seconds from the choice to the result."""
    cost: float
    """Charged price in USD per 1000 such queries."""
    cost_header: bytes
    upgraded: bool = False
    """True if the variant is more accurate than the one charged for."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Reason why a query is not forwarded, and the variant that could have answered."""

    error: QueryError
    wanted: PricedVariant | None = None
    """Variant to load, so that the next such query can be answered."""
    contended: Candidate | None = None
    """Cheapest loaded candidate that would do without competing queries."""


def choose(
    query: Query, state: ClusterState, now: float, config: PolicyConfig, wait_s: float = _FOREVER_S
) -> Choice | Refusal:
    """Choose the destination of `query` at `now`, in monotonic seconds. Changes nothing but caches.

    `wait_s` is its limit of waiting behind others under overload, see `selector.overload`.
    """
    needs = query.needs
    task = state.seen_in(query)
    if task is None or not task.has_target(needs.target):
        return Refusal(_unknown_error(query, task))
    deadline_ms = query.deadline_ms
    slack_s = deadline_ms / 1000 - now if deadline_ms is not None else _default_latency_s(needs.mode, config)
    hard = has_hard_deadline(query)
    candidates = task.candidates(needs, query.batch, slack_s if hard else _FOREVER_S)
    choice = _in_time(candidates, query, now, slack_s, wait_s, config)
    if task.canaries:
        tried = drawn_candidates(task, query, None if choice is None else choice.variant, candidates.latency_s)
        choice = (tried and _in_time(tried, query, now, slack_s, wait_s, config)) or choice
    if choice is not None:
        return choice
    choice = _load_in_time(candidates, query, state, now, slack_s)
    if choice is None and not hard and wait_s == _FOREVER_S:
        choice = _soonest(candidates, query, now) or _fallback_choice(candidates, query, state)
    return choice or _refuse(task, candidates, query, state, now, slack_s)


def drawn_candidates(
    task: TaskCandidates, query: Query, chosen: PricedVariant | None, latency_s: float
) -> Candidates | None:
    """Return the candidates of the canary that must answer instead of `chosen`; None if no canary draws the query.

    If none of them is loaded and in time, the query stays with `chosen`. So a canary gets its share only up to its
    capacity, and the serving version answers the rest.
    """
    rollout = task.drawn(query, chosen)
    if rollout is None:
        return None
    needs = msgspec.structs.replace(query.needs, target=rollout.candidate_target)
    return task.candidates(needs, query.batch, latency_s)


def has_hard_deadline(query: Query) -> bool:
    """Return true if an answer after the deadline is worth nothing."""
    return query.deadline_ms is not None and not query.needs.allow_late


def _default_latency_s(mode: Mode, config: PolicyConfig) -> float:
    return config.default_latency_s if mode is Mode.ONLINE else _FOREVER_S


def _in_time(
    candidates: Candidates, query: Query, now: float, slack_s: float, wait_s: float, config: PolicyConfig
) -> Choice | None:
    """Return the cheapest choice in time, or its upgrade."""
    choice = _cheapest(candidates, query, now, slack_s, wait_s)
    if choice is not None and config.upgrades and query.needs.mode is Mode.ONLINE:
        return _upgrade(candidates, choice, query, now, slack_s, config)
    return choice


def _cheapest(candidates: Candidates, query: Query, now: float, slack_s: float, wait_s: float) -> Choice | None:
    for healthy in (True, False):
        tried: set[str] = set()
        for candidate in candidates.serving:
            found = _soonest_replica(candidate, query, now, slack_s, healthy, wait_s, tried)
            if found is not None:
                return found
            tried.add(candidate.variant.name)
    return None


def _soonest_replica(
    candidate: Candidate,
    query: Query,
    now: float,
    limit_s: float,
    healthy: bool,
    wait_s: float = _FOREVER_S,
    tried: Collection[str] = (),
) -> Choice | None:
    """Return the replica that finishes first, of those examined, if it does before `limit_s`.

    Replicas on workers of a `tried` cheaper variant that alone would be as fast count only with free slots there: an
    overloaded worker must not answer fewer queries by computing dearer variants.
    """
    group = candidate.replicas.healthy if healthy else candidate.replicas.overloaded
    looked_at = group.members.items
    if not looked_at:
        return None
    if len(looked_at) > FEW:
        looked_at = _drawn(group, query, now, limit_s)
    best, finish = _soonest_of(looked_at, query, now, limit_s, tried)
    if best is None or (wait_s != _FOREVER_S and finish - idle_finish_s(best, query.batch, query.streamed) > wait_s):
        return None
    partition = best.partitions[best.turn % len(best.partitions)]
    return Choice(candidate.variant, partition, best, finish, candidate.cost, candidate.cost_header)


def _drawn(group: ReplicaGroup, query: Query, now: float, limit_s: float) -> Sequence[Instance]:
    """Return the replicas of a large group to examine, see `selector.replicas`; none if none can be in time."""
    if group.idle.items:
        return two_of(group.idle.items, _seed(query, now))
    first = group.soonest()
    offline = query.needs.mode is Mode.OFFLINE
    if first is not None and finish_s(first, query.batch, now, offline, query.streamed) > limit_s:
        return ()
    drawn = two_of(group.members.items, _seed(query, now))
    return drawn if first is None else (*drawn, first)


def _soonest_of(
    instances: Sequence[Instance], query: Query, now: float, limit_s: float, tried: Collection[str]
) -> tuple[Instance | None, float]:
    batch, streamed = query.batch, query.streamed
    offline = query.needs.mode is Mode.OFFLINE
    best: Instance | None = None
    for instance in instances:
        if instance.worker.expires_at > now:
            if tried and instance.is_blocked(now) and _is_slower(instance, tried, query):
                continue
            finish = finish_s(instance, batch, now, offline, streamed)
            if finish < limit_s or (finish == limit_s and best is None):
                best, limit_s = instance, finish
    return best, limit_s


def _is_slower(instance: Instance, tried: Collection[str], query: Query) -> bool:
    """Return true if one of the `tried` variants is loaded on the same worker and takes no longer there alone."""
    serving, batch, streamed = instance.worker.instances, query.batch, query.streamed
    alone_s = idle_finish_s(instance, batch, streamed)
    return any(idle_finish_s(serving[name], batch, streamed) <= alone_s for name in tried if name in serving)


def _seed(query: Query, now: float) -> int:
    """Return 32 bits by query and time: a repeated decision draws again, and tests can reproduce it."""
    return crc32(query.id.encode(), int(now * _TICKS_PER_S) & 0xFFFFFFFF)


def _upgrade(
    candidates: Candidates, choice: Choice, query: Query, now: float, slack_s: float, config: PolicyConfig
) -> Choice:
    accuracy, batch = choice.variant.accuracy, query.batch
    for candidate in candidates.upgrades:
        if candidate.variant.accuracy <= accuracy:
            break
        group = candidate.replicas.healthy
        looked_at = group.members.items
        if len(looked_at) > FEW:
            idle = group.idle.items
            looked_at = (idle[int(now * _TICKS_PER_S) % len(idle)],) if idle else ()
        for instance in looked_at:
            share = upgraded_share(instance, batch, now, config.upgrade_cpu_limit)
            if (
                share > 0.0
                and has_idle_capacity(instance, batch, now, config.upgrade_share)
                and _is_drawn(query, now, share)
            ):
                finish = finish_s(instance, batch, now, streamed=query.streamed)
                if finish <= slack_s:
                    partition = instance.partitions[instance.turn % len(instance.partitions)]
                    return Choice(
                        candidate.variant, partition, instance, finish, choice.cost, choice.cost_header, upgraded=True
                    )
    return choice


def _is_drawn(query: Query, now: float, share: float) -> bool:
    """Return true if the query falls into this share of all queries."""
    return share >= 1.0 or _seed(query, now) < share * (1 << 32)


def _load_in_time(
    candidates: Candidates, query: Query, state: ClusterState, now: float, slack_s: float
) -> Choice | None:
    if query.deadline_ms is None or _is_fast_enough_alone(candidates, query, now, slack_s):
        return None
    fits = (c for c in candidates.unloaded() if cold_start_finish_s(c.variant, query.batch, state) <= slack_s)
    chosen = next(fits, None)
    return None if chosen is None else _to_unloaded(chosen, query, state)


def _is_fast_enough_alone(candidates: Candidates, query: Query, now: float, slack_s: float) -> bool:
    """Return true if a loaded instance is fast enough and only too busy.

    Another variant loaded beside it would take time from it; the autoscaler decides if there is room for more.
    """
    return any(
        instance.worker.expires_at > now and idle_finish_s(instance, query.batch, query.streamed) <= slack_s
        for candidate in candidates.serving
        for instance in islice(candidate.replicas, FEW)
    )


def _soonest(candidates: Candidates, query: Query, now: float) -> Choice | None:
    for healthy in (True, False):
        each = (_soonest_replica(c, query, now, _FOREVER_S, healthy) for c in candidates.serving)
        found = min((c for c in each if c is not None), key=lambda c: c.predicted_s, default=None)
        if found is not None:
            return found
    return None


def _fallback_choice(candidates: Candidates, query: Query, state: ClusterState) -> Choice | None:
    chosen = candidates.fallback()
    return None if chosen is None else _to_unloaded(chosen, query, state)


def _to_unloaded(chosen: Candidate, query: Query, state: ClusterState) -> Choice:
    """Return the choice of a variant that is not loaded; a worker that loads it will find the query in its topic."""
    partitions = state.partitions(chosen.variant)
    partition = partitions[crc32(query.id.encode()) % len(partitions)]
    predicted_s = cold_start_finish_s(chosen.variant, query.batch, state)
    return Choice(chosen.variant, partition, None, predicted_s, chosen.cost, chosen.cost_header)


def _refuse(
    task: TaskCandidates, candidates: Candidates, query: Query, state: ClusterState, now: float, slack_s: float
) -> Refusal:
    budget_s = _FOREVER_S
    if query.deadline_ms is not None and has_hard_deadline(query):
        budget_s = (query.deadline_ms - query.sent_ms) / 1000
    # Hops are slower under load, so the least one decides that needs are unsatisfiable at any load.
    hop_s = state.least_hop_s
    if candidates.fastest_s() + hop_s > budget_s or not candidates.eligible():
        return Refusal(Unsatisfiable(_nearest(task, candidates, query, budget_s, hop_s)))
    if slack_s <= 0:
        return Refusal(DeadlineExceeded("the deadline passed before the query was read"))
    if candidates.serving:
        contended = candidates.serving[0]
        retry_after_s = drain_s(islice(contended.replicas, FEW), query.batch, now)
        return Refusal(Overloaded(retry_after_s=retry_after_s), contended=contended)
    failed = candidates.failed()
    if failed is not None:  # demanded nevertheless, because a new worker may load it
        why = f"{failed.variant.name} cannot be loaded: {task.load_failure(failed.variant)}"
        return Refusal(ModelFailed(why), failed.variant)
    unloaded = (candidate.variant for candidate in candidates.unloaded())
    wanted = next((variant for variant in unloaded if variant.model.query_s(query.batch) <= budget_s), None)
    if wanted is None:
        return Refusal(Overloaded("no worker is there that could load a variant which meets these needs"))
    why = f"{wanted.name} is not loaded, and loading it takes {wanted.load_s:.1f} s; try again then"
    return Refusal(Overloaded(why, retry_after_s=wanted.load_s), wanted)


def _unknown_error(query: Query, task: TaskCandidates | None) -> QueryError:
    if task is None:
        return UnknownTask(f"no task {query.task!r} is registered")
    return UnknownTask(f"task {query.task!r} has no architecture or variant {query.needs.target!r}")


def _nearest(task: TaskCandidates, candidates: Candidates, query: Query, budget_s: float, hop_s: float) -> str:
    def unmet(variant: PricedVariant) -> list[tuple[float, str]]:
        return _unmet_needs(variant, query, budget_s, hop_s)

    nearest = candidates.nearest(lambda variant: sum(by for by, _ in unmet(variant)))
    if nearest is None:
        return f"no variant of task {task.name!r} is registered yet"
    return "no registered variant meets these needs; the nearest, {}, {}".format(
        nearest.name, " and ".join(text for _, text in unmet(nearest)) or "is taken by none of the workers"
    )


def _unmet_needs(variant: PricedVariant, query: Query, budget_s: float, hop_s: float) -> list[tuple[float, str]]:
    """Return each need that the variant fails: the relative distance, and its description."""
    needs, found = query.needs, list[tuple[float, str]]()
    if needs.min_accuracy is not None and variant.accuracy < needs.min_accuracy:
        by = needs.min_accuracy - variant.accuracy
        found.append((by, f"has accuracy {variant.accuracy:.4f} where {needs.min_accuracy:g} is asked"))
    cost = variant.cost(size_class(query.batch), needs.mode is Mode.OFFLINE)
    if needs.max_cost is not None and cost > needs.max_cost:
        by = cost / max(needs.max_cost, 1e-9) - 1
        found.append((by, f"costs {cost:.3g} USD per 1000 queries where {needs.max_cost:g} is allowed"))
    needed_s = variant.model.query_s(query.batch) + hop_s
    if needed_s > budget_s:
        by = needed_s / max(budget_s, 1e-6) - 1
        found.append((by, f"needs {needed_s * 1e3:.3g} ms where {budget_s * 1e3:.3g} ms are allowed"))
    return found
