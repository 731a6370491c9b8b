"""Context and outcomes of a choice: the context that all steps share, a choice, and a refusal with its reason. Pure.

Refusals, in the order in which they are checked:

    unknown task or target          the tenant knows no such name
    unsatisfiable                   no registered variant meets the needs at any load; names the nearest one
    deadline exceeded               the deadline passed before the choice
    overloaded, with retry time     all instances are too busy, or the variant must be loaded first
    model failed                    all variants that meet the needs failed to load
    overloaded, without retry time  no worker can load a suitable variant
"""

from collections.abc import Callable
from itertools import islice
from typing import Final
from zlib import crc32

import msgspec

from schemas.defaults import DEFAULT_LATENCY_S
from schemas.errors import (
    DeadlineExceeded,
    ModelFailed,
    Overloaded,
    QueryError,
    RefusalReason,
    UnknownTask,
    Unsatisfiable,
)
from schemas.query import Mode, Query
from selector.policy.candidates import Candidate, Candidates, TaskCandidates
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.partition import Partition
from selector.policy.prediction import drain_s
from selector.policy.replicas import FEW
from selector.policy.variants import PricedVariant

FOREVER_S: Final = float("inf")
_OFFLINE: Final = Mode.OFFLINE


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the policy."""

    default_latency_s: float = DEFAULT_LATENCY_S
    """Latency objective in seconds of queries that name none."""
    upgrades: bool = True
    """True if an idle, more accurate instance may take a query at the cheaper one's price."""
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
    is_calm: bool = False
    """True if only its own limit of waiting refuses it, where other queries would not be refused."""


class ChoiceContext(msgspec.Struct, frozen=True, gc=False):
    """Query, state and time of one choice, and the values that its steps derive from them."""

    query: Query
    state: ClusterState
    now: float
    """Monotonic seconds."""
    config: PolicyConfig
    wait_s: float
    """Limit of waiting behind others under overload, see `selector.admission.overload`; infinite without one."""
    task: TaskCandidates
    candidates: Candidates
    slack_s: float
    """Seconds until the deadline, or of the latency objective of queries without one."""
    firm: bool
    """True if an answer after the deadline is worth nothing."""
    offline: bool
    batch: int


def context_of(
    query: Query, state: ClusterState, now: float, config: PolicyConfig, wait_s: float = FOREVER_S
) -> ChoiceContext | None:
    """Return the context of a query's choice; None if its tenant knows no such task or target."""
    task, needs = state.seen_in(query), query.needs
    if task is None or not (needs.target is None or task.has_target(needs.target)):
        return None
    offline, firm = needs.mode is _OFFLINE, False
    if query.deadline_ms is not None:
        slack_s, firm = query.deadline_ms / 1000 - now, not needs.allow_late
    else:
        slack_s = FOREVER_S if offline else config.default_latency_s
    # The time of a generative answer depends on its own length, so no class of latencies excludes variants.
    limit_s = slack_s if firm and not task.is_generative else FOREVER_S
    candidates = task.candidates(needs, query.batch, limit_s)
    return ChoiceContext(query, state, now, config, wait_s, task, candidates, slack_s, firm, offline, query.batch)


def to_unloaded(context: ChoiceContext, candidate: Candidate, finish: float) -> Choice:
    """Return the choice of a variant that is not loaded; a worker that loads it will find the query in its topic."""
    partitions = context.state.partitions(candidate.variant)
    partition = partitions[crc32(context.query.id.encode()) % len(partitions)]
    return Choice(candidate.variant, partition, None, finish, candidate.cost, candidate.cost_header)


def has_hard_deadline(query: Query) -> bool:
    """Return true if an answer after the deadline is worth nothing."""
    return query.deadline_ms is not None and not query.needs.allow_late


_BEYOND_LIMIT: Final = {
    RefusalReason.BEYOND_FAIR_SHARE: "too busy, and this tenant asks for more than its share; try again later",
    RefusalReason.TOO_COSTLY: "too busy for queries that cost as much as this one; try again later, or ask for less",
}


def unknown(query: Query, task: TaskCandidates | None) -> Refusal:
    """Return the refusal of a query whose task or target does not exist for its tenant."""
    if task is None:
        return Refusal(UnknownTask(f"no task {query.task!r} is registered"))
    return Refusal(UnknownTask(f"task {query.task!r} has no architecture or variant {query.needs.target!r}"))


def deadline_passed(before: str) -> Refusal:
    """Return the refusal of a query whose deadline passed before some event."""
    return Refusal(DeadlineExceeded(f"the deadline passed before {before}"))


def beyond_limit(refusal: Refusal, contested: bool, is_calm: bool) -> Refusal:
    """Return the refusal of a query that would wait longer than it may; `contested` if tenants compete."""
    why = RefusalReason.BEYOND_FAIR_SHARE if contested else RefusalReason.TOO_COSTLY
    error = Overloaded(_BEYOND_LIMIT[why], reason=why, retry_after_s=refusal.error.retry_after_s)
    return Refusal(error, contended=refusal.contended, is_calm=is_calm)


def refuse(context: ChoiceContext) -> Refusal:
    """Return the refusal of a query for which no step of the policy found a choice."""
    query, candidates = context.query, context.candidates
    registered = candidates.registered
    budget_s = FOREVER_S
    if query.deadline_ms is not None and context.firm:
        budget_s = (query.deadline_ms - query.sent_ms) / 1000
    # Hops are slower under load, so the least one decides that needs are unsatisfiable at any load.
    hop_s = context.state.least_hop_s
    if registered.fastest_s + hop_s > budget_s or not registered.eligible:
        return unsatisfiable(context, lambda candidate: _unmet_needs(candidate, query, budget_s, hop_s))
    if context.slack_s <= 0:
        return deadline_passed("the query was read")
    if candidates.serving:
        contended = candidates.serving[0]
        retry_after_s = drain_s(islice(contended.replicas, FEW), query.batch, context.now)
        error = Overloaded(reason=RefusalReason.INSTANCES_BUSY, retry_after_s=retry_after_s)
        return Refusal(error, contended=contended)
    return unserved(context, lambda candidate: candidate.variant.model.query_s(query.batch) <= budget_s)


def unserved(context: ChoiceContext, is_in_time: Callable[[Candidate], bool]) -> Refusal:
    """Return the refusal of a query whose candidates are not loaded; it demands the cheapest that is in time."""
    registered, task = context.candidates.registered, context.task
    failed = registered.failed
    if failed is not None:  # demanded nevertheless, because a new worker may load it
        why = f"{failed.variant.name} cannot be loaded: {task.load_failure(failed.variant)}"
        return Refusal(ModelFailed(why, reason=RefusalReason.LOAD_FAILED), failed.variant)
    found = next(filter(is_in_time, registered.unloaded), None)
    if found is None:
        why = "no running worker can load a variant that meets these needs"
        return Refusal(Overloaded(why, reason=RefusalReason.NO_WORKER))
    wanted = found.variant
    why = f"{wanted.name} is not loaded, and loading it takes {wanted.load_s:.1f} s; try again then"
    return Refusal(Overloaded(why, reason=RefusalReason.NOT_LOADED, retry_after_s=wanted.load_s), wanted)


def unsatisfiable(context: ChoiceContext, unmet: Callable[[Candidate], list[tuple[float, str]]]) -> Refusal:
    """Return the refusal of needs that no registered variant meets; it names the variant that misses them by least.

    `unmet` returns each need that a candidate fails: the relative distance, and its description.
    """
    nearest = context.candidates.nearest(lambda candidate: sum(by for by, _ in unmet(candidate)))
    if nearest is None:
        return Refusal(Unsatisfiable(f"no variant of task {context.task.name!r} is registered yet"))
    words = " and ".join([text for _, text in unmet(nearest)]) or "fits no running worker"
    name = nearest.variant.name
    return Refusal(Unsatisfiable(f"no registered variant meets these needs; the nearest, {name}, {words}"))


def _unmet_needs(candidate: Candidate, query: Query, budget_s: float, hop_s: float) -> list[tuple[float, str]]:
    """Return each need that the candidate fails: the relative distance, and its description."""
    found = unmet_needs(candidate, query)
    needed_s = candidate.variant.model.query_s(query.batch) + hop_s
    if needed_s > budget_s:
        by = needed_s / max(budget_s, 1e-6) - 1
        found.append((by, f"needs {needed_s * 1e3:.3g} ms where {budget_s * 1e3:.3g} ms are allowed"))
    return found


def unmet_needs(candidate: Candidate, query: Query) -> list[tuple[float, str]]:
    """Return each need besides those for time that the candidate fails: the relative distance, and its description."""
    needs, variant, found = query.needs, candidate.variant, list[tuple[float, str]]()
    if needs.min_accuracy is not None and variant.accuracy < needs.min_accuracy:
        by = needs.min_accuracy - variant.accuracy
        found.append((by, f"has accuracy {variant.accuracy:.4f} where {needs.min_accuracy:g} is required"))
    if needs.max_cost is not None and candidate.cost > needs.max_cost:
        by = candidate.cost / max(needs.max_cost, 1e-9) - 1
        unit = "queries" if variant.generation is None else "tokens"
        found.append((by, f"costs {candidate.cost:.3g} USD per 1000 {unit} where {needs.max_cost:g} is allowed"))
    return found
