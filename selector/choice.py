"""Question and answer of a choice: the context that all steps of the policy share, a choice, and a refusal."""

from typing import Final

import msgspec

from schemas.defaults import DEFAULT_LATENCY_S
from schemas.errors import QueryError
from schemas.needs import Mode
from schemas.query import Query
from selector.candidates import Candidate, Candidates, TaskCandidates
from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.partition import Partition
from selector.variants import PricedVariant

FOREVER_S: Final = float("inf")
_OFFLINE: Final = Mode.OFFLINE


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


class ChoiceContext(msgspec.Struct, frozen=True, gc=False):
    """Query, state and time of one choice, and the values that its steps derive from them."""

    query: Query
    state: ClusterState
    now: float
    """Monotonic seconds."""
    config: PolicyConfig
    wait_s: float
    """Limit of waiting behind others under overload, see `selector.overload`; infinite without one."""
    task: TaskCandidates
    candidates: Candidates
    slack_s: float
    """Seconds until the deadline, or of the latency objective of queries without one."""
    firm: bool
    """True if an answer after the deadline is worth nothing."""
    offline: bool
    batch: int
    streamed: bool


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
    candidates = task.candidates(needs, query.batch, slack_s if firm else FOREVER_S)
    return ChoiceContext(
        query, state, now, config, wait_s, task, candidates, slack_s, firm, offline, query.batch, query.streamed
    )


def has_hard_deadline(query: Query) -> bool:
    """Return true if an answer after the deadline is worth nothing."""
    return query.deadline_ms is not None and not query.needs.allow_late
