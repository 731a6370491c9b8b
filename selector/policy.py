"""Which instance answers a query. Pure: the world, the query, the time and the rules come in, a choice comes out.

    serving and meets the needs, healthy     the cheapest predicted to finish in time; of its replicas the soonest
    serving, overloaded                      the same, if no healthy one fits
    not loaded                               if nothing serves that is fast enough: the cheapest whose load and
                                             inference still fit
    may be late, or has no deadline          the soonest of all that serve; none: kept where it is likely to be served
    else                                     a refusal at once: a sure miss helps nobody and costs others their deadline

Predicted finish = hops + the later of the instance's backlog and its worker's + the batch it would join, from what was
profiled and times the slowdown measured. A query without a deadline is patient: it goes to the cheapest that answers
within `default_latency_s`, else to the soonest. What is interfered is predicted slower, and that is all: dearer
variants on the same worker would be as slow and take more of it.

A query chosen for the cheapest may be given, at the cheapest's price, to a more accurate instance that is loaded and
as good as idle. "Idle" also asks that the worker could serve its present rate of queries that way within a share of
its slots: free upgrades must not use up the room that makes them free, or accuracy and latency would swing with every
burst.

After INFaaS's algorithm 1. Different by intent: it picks the least loaded worker of the lowest latency variant, not
the cheapest that fits; it knows load as queries per second, two seconds old; it answers late rather than say no.
"""

from typing import Final
from zlib import crc32

import msgspec

from schemas.defaults import DEFAULT_LATENCY_S
from schemas.errors import DeadlineExceeded, Overloaded, QueryError, UnknownTask, Unsatisfiable
from schemas.needs import Mode
from schemas.query import Query
from selector.candidates import Candidate, Candidates, TaskCandidates
from selector.cluster_state import ClusterState
from selector.cost import size_class
from selector.entities import Instance, Partition, Worker
from selector.prediction import (
    cold_start_finish_s,
    finish_s,
    has_hard_deadline,
    has_idle_capacity,
    idle_finish_s,
    is_busy,
)
from selector.variants import PricedVariant

_FOREVER_S: Final = float("inf")


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may set."""

    default_latency_s: float = DEFAULT_LATENCY_S
    """How long an answer may take where the query does not say."""
    upgrades: bool = True
    upgrade_share: float = 0.5
    """Share of a worker's slots that free upgrades may fill."""


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Where a query goes, and what is promised."""

    offer: PricedVariant
    partition: Partition
    instance: Instance | None
    """None: no worker has the variant loaded; it must be asked for."""
    predicted_s: float
    """From the decision to the result."""
    cost: float
    """USD per 1000 such queries, as charged."""
    cost_header: bytes
    upgraded: bool = False
    """Given to a more accurate variant than it is charged for."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a query goes nowhere."""

    error: QueryError
    wanted: PricedVariant | None = None
    """What should be loaded, so that the next such query can be answered."""
    crowded: Candidate | None = None
    """The cheapest that serves and would do, if it were not for other queries."""


def choose(
    query: Query, world: ClusterState, now: float, rules: PolicyConfig, wait_s: float = _FOREVER_S
) -> Choice | Refusal:
    """Choose where `query` goes at `now`, seconds since the epoch. Changes nothing but caches.

    `wait_s` is the longest that it may wait behind others under overload, see `selector.overload`.
    """
    needs = query.needs
    view = world.tasks.get(query.task)
    if view is None or not view.has(needs.target):
        return Refusal(_unknown(query, view))
    deadline_ms = query.deadline_ms
    slack_s = deadline_ms / 1000 - now if deadline_ms is not None else _default_latency_s(needs.mode, rules)
    firm = has_hard_deadline(query)
    candidates = view.candidates(needs, query.batch, slack_s if firm else _FOREVER_S)
    choice = _cheapest(candidates, query, now, slack_s, wait_s)
    if choice is not None:
        if rules.upgrades and needs.mode is Mode.ONLINE:
            return _upgrade(candidates, choice, query, now, slack_s, rules.upgrade_share)
        return choice
    choice = _load_in_time(candidates, query, world, now, slack_s)
    if choice is None and not firm and wait_s == _FOREVER_S:
        choice = _soonest(candidates, query, now) or _keep(candidates, query, world)
    return choice or _refuse(view, candidates, query, world, slack_s)


def _default_latency_s(mode: Mode, rules: PolicyConfig) -> float:
    return rules.default_latency_s if mode is Mode.ONLINE else _FOREVER_S


def _cheapest(candidates: Candidates, query: Query, now: float, slack_s: float, wait_s: float) -> Choice | None:
    for healthy in (True, False):
        tried: tuple[Worker, ...] = ()
        for candidate in candidates.serving:
            found = _soonest_replica(candidate, query, now, slack_s, healthy, wait_s, tried)
            if found is not None:
                return found
            if wait_s < _FOREVER_S:
                tried = (*tried, *[instance.worker for instance in candidate.replicas])
    return None


def _soonest(candidates: Candidates, query: Query, now: float) -> Choice | None:
    for healthy in (True, False):
        each = (_soonest_replica(c, query, now, _FOREVER_S, healthy) for c in candidates.serving)
        found = min((c for c in each if c is not None), key=lambda c: c.predicted_s, default=None)
        if found is not None:
            return found
    return None


def _soonest_replica(
    candidate: Candidate,
    query: Query,
    now: float,
    limit_s: float,
    healthy: bool,
    wait_s: float = _FOREVER_S,
    tried: tuple[Worker, ...] = (),
) -> Choice | None:
    """Of the instances that finish before `limit_s`, the one that does first.

    Those on workers that were `tried` for a cheaper variant count only if slots are free there: under overload a worker
    must not answer fewer queries by computing dearer ones.
    """
    batch = query.batch
    offline = query.needs.mode is Mode.OFFLINE
    best: Instance | None = None
    for instance in candidate.replicas:
        if instance.healthy is healthy and instance.worker.gone_at > now:
            if tried and instance.worker in tried and is_busy(instance):
                continue
            finish = finish_s(instance, batch, now, offline)
            if finish < limit_s or (finish == limit_s and best is None):
                best, limit_s = instance, finish
    if best is None or (wait_s != _FOREVER_S and limit_s - idle_finish_s(best, batch) > wait_s):
        return None
    partition = best.partitions[best.turn % len(best.partitions)]
    return Choice(candidate.offer, partition, best, limit_s, candidate.cost, candidate.cost_header)


def _upgrade(candidates: Candidates, choice: Choice, query: Query, now: float, slack_s: float, share: float) -> Choice:
    accuracy, batch = choice.offer.accuracy, query.batch
    for candidate in candidates.upgrades:
        if candidate.offer.accuracy <= accuracy:
            break
        for instance in candidate.replicas:
            if has_idle_capacity(instance, batch, now, share):
                finish = finish_s(instance, batch, now)
                if finish <= slack_s:
                    partition = instance.partitions[instance.turn % len(instance.partitions)]
                    return Choice(
                        candidate.offer, partition, instance, finish, choice.cost, choice.cost_header, upgraded=True
                    )
    return choice


def _load_in_time(
    candidates: Candidates, query: Query, world: ClusterState, now: float, slack_s: float
) -> Choice | None:
    if query.deadline_ms is None or _would_do_alone(candidates, query.batch, now, slack_s):
        return None
    fits = (c for c in candidates.unloaded() if cold_start_finish_s(c.offer, query.batch, world) <= slack_s)
    chosen = next(fits, None)
    return None if chosen is None else _unserved(chosen, query, world)


def _would_do_alone(candidates: Candidates, batch: int, now: float, slack_s: float) -> bool:
    """Whether something serves that is fast enough and merely has too much to do.

    Another variant loaded beside it would take time from it. Whether there is room for more, the autoscaler sees.
    """
    return any(
        instance.worker.gone_at > now and idle_finish_s(instance, batch) <= slack_s
        for candidate in candidates.serving
        for instance in candidate.replicas
    )


def _keep(candidates: Candidates, query: Query, world: ClusterState) -> Choice | None:
    chosen = candidates.fallback()
    return None if chosen is None else _unserved(chosen, query, world)


def _unserved(chosen: Candidate, query: Query, world: ClusterState) -> Choice:
    """To a variant nobody serves: whoever loads it will find the query in its topic."""
    partitions = world.partitions(chosen.offer)
    partition = partitions[crc32(query.id.encode()) % len(partitions)]
    predicted_s = cold_start_finish_s(chosen.offer, query.batch, world)
    return Choice(chosen.offer, partition, None, predicted_s, chosen.cost, chosen.cost_header)


def _refuse(view: TaskCandidates, candidates: Candidates, query: Query, world: ClusterState, slack_s: float) -> Refusal:
    budget_s = _FOREVER_S
    if query.deadline_ms is not None and has_hard_deadline(query):
        budget_s = (query.deadline_ms - query.sent_ms) / 1000
    # What hops take under load is no reason to say that it can never be done.
    hop_s = min((min(worker.hop_s, world.hop_s) for worker in world.workers.values()), default=0.0)
    if candidates.fastest_s() + hop_s > budget_s or not candidates.eligible():
        return Refusal(Unsatisfiable(_nearest(view, candidates, query, budget_s, hop_s)))
    if slack_s <= 0:
        return Refusal(DeadlineExceeded("the deadline passed before the query was read"))
    if candidates.serving:
        return Refusal(Overloaded(), crowded=candidates.serving[0])
    wanted = next((c.offer for c in candidates.unloaded() if c.offer.model.batch_s(query.batch) <= budget_s), None)
    if wanted is None:
        return Refusal(Overloaded("no worker is there that could load a variant which meets these needs"))
    return Refusal(
        Overloaded(f"{wanted.name} is not loaded, and loading it takes {wanted.load_s:.1f} s; try again then"), wanted
    )


def _unknown(query: Query, view: TaskCandidates | None) -> QueryError:
    if view is None:
        return UnknownTask(f"no task {query.task!r} is registered")
    return UnknownTask(f"task {query.task!r} has no architecture or variant {query.needs.target!r}")


def _nearest(view: TaskCandidates, candidates: Candidates, query: Query, budget_s: float, hop_s: float) -> str:
    def misses(offer: PricedVariant) -> list[tuple[float, str]]:
        return list(_misses(offer, query, budget_s, hop_s))

    nearest = candidates.nearest(lambda offer: sum(by for by, _ in misses(offer)))
    if nearest is None:
        return f"no variant of task {view.name!r} is registered yet"
    return "no registered variant meets these needs; the nearest, {}, {}".format(
        nearest.name, " and ".join(text for _, text in misses(nearest)) or "is taken by none of the workers"
    )


def _misses(offer: PricedVariant, query: Query, budget_s: float, hop_s: float) -> list[tuple[float, str]]:
    """By how much, relatively and in words, the offer fails each need of the query."""
    needs, found = query.needs, list[tuple[float, str]]()
    if needs.min_accuracy is not None and offer.accuracy < needs.min_accuracy:
        by = needs.min_accuracy - offer.accuracy
        found.append((by, f"has accuracy {offer.accuracy:.4f} where {needs.min_accuracy:g} is asked"))
    cost = offer.cost(size_class(query.batch), needs.mode is Mode.OFFLINE)
    if needs.max_cost is not None and cost > needs.max_cost:
        by = cost / max(needs.max_cost, 1e-9) - 1
        found.append((by, f"costs {cost:.3g} USD per 1000 queries where {needs.max_cost:g} is allowed"))
    needed_s = offer.model.batch_s(query.batch) + hop_s
    if needed_s > budget_s:
        by = needed_s / max(budget_s, 1e-6) - 1
        found.append((by, f"needs {needed_s * 1e3:.3g} ms where {budget_s * 1e3:.3g} ms are allowed"))
    return found
