"""Load shedding: under overload tenants get fair shares of a task, and cheap queries precede dear ones.

It starts when a query of the task was refused because all serving instances were too busy (`Overloaded`), and ends when
none was refused for `_CALM_S`. A dear query of a lone tenant that only its own limit refuses does not prolong it:
otherwise the limits would keep up an overload that has passed. Meanwhile each query has a limit of waiting. A query
with a lower limit is refused while the queues still have room for others:

    tenant within its share                      70 % of the time left to its deadline, as predictions err
    beyond its share, received less than it      55 % of the shortest wait among queries of the line above
    beyond its share, received it                40 % of that wait
    both, query dearer than its tenant's mean    less, but more than the next line

This is partial buffer sharing: the room above a threshold is reserved for tenants within their shares. There is no
adaptive rate, so nothing can oscillate. A query with an idle instance is never refused, so instances stay busy. Shares
are max-min fair, by water-filling over the recent demand of each tenant. They are counted in cost, so a tenant with
dear queries gets as much computing time as one with cheap ones. A single tenant has no competitor; only its dear
queries are limited.

Queries without a firm deadline wait longer; they are refused only if their tenant is beyond its share. Offline queries
are not handled here: they wait in their topic.

Pure: the caller passes the time. A query costs a lookup and a few additions; shares are computed ten times a second.

Under a flood most queries of a fetch are refused in a row for the same reason, a backlog that takes too long. It does
not change between one query and the next. So queries similar to one just refused are refused from a cache, without
evaluating candidates again:

* Similar queries have the same task, tenant, size and needs, and a deadline not much later than the refused one's.
* A refusal is valid for a small share of the time that was left to the query. So capacity that becomes free stays
  unused for at most that long, and the instances, whose queues reach close to the deadlines, stay busy.
* The number of entries is bounded. Queries refused from the cache are counted as load nevertheless.
"""

from math import exp, inf
from typing import Final, TypeAlias

import msgspec

from schemas.query import Needs, Query
from selector.admission.tenant_shares import Account, TenantAccounts, fair_share
from selector.policy.choice import Choice, PolicyConfig, Refusal, beyond_limit, has_hard_deadline
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import idle_finish_s
from selector.policy.selection import choose

_VALIDITY_SHARE: Final = 0.02
"""Validity of a cached refusal, as a share of the query's time to its deadline."""
_LONGEST_VALIDITY_S: Final = 0.01
"""Longest validity in seconds; also that of a query without a deadline."""
_MOST_REFUSALS: Final = 256

_Likeness: TypeAlias = tuple[str | None, int, Needs]


class _Refused(msgspec.Struct, frozen=True, gc=False):
    refusal: Refusal
    holds_s: float
    until: float
    deadline_ms: float | None


class RefusalCache:
    """Valid refusals of one task."""

    def __init__(self) -> None:
        self._kept: dict[_Likeness, _Refused] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, query: Query, now: float) -> Refusal | None:
        """Return a cached refusal that holds for the query; None if it must be evaluated."""
        if not self._kept:
            return None
        found = self._kept.get((query.tenant, query.batch, query.needs))
        if found is None or now > found.until:
            return None
        deadline_ms, latest_ms = query.deadline_ms, found.deadline_ms
        if deadline_ms is None or latest_ms is None:
            return found.refusal if deadline_ms is latest_ms else None
        is_alike = 1e3 * now < deadline_ms <= latest_ms + 1e3 * found.holds_s  # a late query needs its own error
        return found.refusal if is_alike else None

    def keep(self, query: Query, refusal: Refusal, now: float) -> None:
        """Cache the refusal of a query."""
        deadline_ms = query.deadline_ms
        left_s = inf if deadline_ms is None else deadline_ms / 1e3 - now
        holds_s = min(_VALIDITY_SHARE * left_s, _LONGEST_VALIDITY_S)
        if len(self._kept) >= _MOST_REFUSALS:
            self._kept.clear()
        kept = _Refused(refusal, holds_s, now + holds_s, deadline_ms)
        self._kept[query.tenant, query.batch, query.needs] = kept


_CALM_S: Final = 2.0
_PERIOD_S: Final = 0.1
_MEMORY_S: Final = 1.0
_WITHIN_SHARE: Final = 0.7
"""Share of the longest possible wait for a tenant within its share. On a full machine predictions err by a fifth, so a
query that waits for all of it is late half of the time. A queue that is never empty needs no more.
"""
_UNDERSERVED: Final = 0.4
_SERVED: Final = 0.25
_COST_BAND: Final = 0.15
"""Extra wait of a query of mean cost over the dearest, as a share of the shortest wait."""
_FORGOTTEN_BELOW: Final = 1e-3
"""Decayed number of queries below which a tenant is dropped."""


class _Tenant:
    """Recent demand of a tenant and the part that was served, both in cost, with exponential decay."""

    __slots__ = ("demand", "queries", "served")

    def __init__(self) -> None:
        self.queries = 0.0
        self.demand = 0.0
        self.served = 0.0


class Overload:
    """Overload of one task: demand of each tenant, and its limit of waiting."""

    def __init__(self, now: float, config: PolicyConfig) -> None:
        self.until = now + _CALM_S
        """End of the overload, unless another query is refused before."""
        self.refused = RefusalCache()
        self._accounts = TenantAccounts(config.tenants, config.max_unlisted_tenants)
        self._tenants: dict[Account, _Tenant] = {}
        self._share = inf
        self._shortest = inf, inf
        """Shortest possible wait, in seconds, of queries within their tenants' shares: in this and the last period."""
        self._since = now

    @property
    def tenant_count(self) -> int:
        """Number of tenants with recent queries."""
        return len(self._tenants)

    @property
    def is_contested(self) -> bool:
        """True if more than one tenant has recent queries."""
        return self.tenant_count > 1

    def allowed_wait_s(self, name: str | None, cost: float, most_s: float, now: float, queries: int = 1) -> float:
        """Count a query of a tenant that costs `cost` and could wait `most_s`; return its limit of waiting in seconds.

        It stands for `queries` queries, of which a gateway refused all but one.
        """
        tenant = self.count(name, cost, now, queries)
        if tenant.demand <= self._share:
            self._shortest = min(self._shortest[0], most_s), self._shortest[1]
            return most_s * _WITHIN_SHARE
        dear = min(1.0, tenant.demand / tenant.queries / cost) if cost > 0 else 1.0
        if not self.is_contested:
            return most_s * _WITHIN_SHARE * dear
        minimum = _UNDERSERVED if tenant.served <= self._share else _SERVED
        return min(most_s, *self._shortest) * (minimum + _COST_BAND * dear)

    def count(self, name: str | None, cost: float, now: float, queries: int = 1) -> _Tenant:
        """Count a query of cost `cost` that stands for `queries` queries; return its tenant's entry."""
        if now - self._since >= _PERIOD_S:
            self._update_shares(now)
        tenant = self._tenant(name)
        tenant.demand += cost * queries
        tenant.queries += queries
        return tenant

    def admit(self, name: str | None, cost: float) -> None:
        """Count a query as admitted, with its cost as received by the tenant."""
        self._tenant(name).served += cost

    def _tenant(self, name: str | None) -> _Tenant:
        return self._tenants.get(name) or self._tenants.setdefault(self._accounts.of(name), _Tenant())

    def _update_shares(self, now: float) -> None:
        decay = exp((self._since - now) / _MEMORY_S)
        self._since = now
        for tenant in self._tenants.values():
            tenant.queries *= decay
            tenant.demand *= decay
            tenant.served *= decay
        self._tenants = {name: tenant for name, tenant in self._tenants.items() if tenant.queries > _FORGOTTEN_BELOW}
        self._accounts.keep(self._tenants)
        self._share = fair_share(
            [t.demand for t in self._tenants.values()], sum(t.served for t in self._tenants.values())
        )
        self._shortest = inf, self._shortest[0]


class LoadShedder:
    """Overloads of all tasks of a selector; `overloads` is empty while there is none, which is checked first."""

    def __init__(self, config: PolicyConfig) -> None:
        self._config = config
        self.overloads: dict[str, Overload] = {}

    def decide(self, query: Query, state: ClusterState, now: float) -> Choice | Refusal:
        """Choose a destination as `choose` does, or refuse a query beyond its limit of waiting.

        Workers whose statuses have become invalid leave the state first: until then their variants are neither served
        nor loaded elsewhere.
        """
        if state.expires_at <= now:
            state.expire(now)
        if not self.overloads:
            outcome = choose(query, state, now, self._config)
        else:
            known = self._refused_alike(query, now)
            if known is not None:
                return known
            outcome = self.review(query, choose(query, state, now, self._config), state, now)
        if isinstance(outcome, Refusal) and outcome.contended is not None and not outcome.is_calm:
            self._report_overload(query, outcome, state, now)
        return outcome

    def _refused_alike(self, query: Query, now: float) -> Refusal | None:
        """Return a cached refusal of a similar query, counting this query, too; None if there is none."""
        overload = self.overloads.get(query.task)
        if overload is None or now > overload.until:
            return None
        known = overload.refused.find(query, now)
        if known is not None and known.contended is not None:
            overload.count(query.tenant, known.contended.cost, now, 1 + query.rejected_upstream)
        return known

    def _report_overload(self, query: Query, refusal: Refusal, state: ClusterState, now: float) -> None:
        """Start or prolong an overload after a query was refused because all instances were too busy."""
        overload = self.overloads.get(query.task)
        if overload is None:
            overload = self.overloads[query.task] = Overload(now, self._config)
        overload.until = now + _CALM_S
        task = state.seen_in(query)
        if task is not None and not task.canaries:  # a similar query may be drawn for a canary with free capacity
            overload.refused.keep(query, refusal, now)

    def review(self, query: Query, outcome: Choice | Refusal, state: ClusterState, now: float) -> Choice | Refusal:
        """Return `outcome`, which `choose` returned for the query, or a refusal by its limit of waiting."""
        config = self._config
        overload = self.overloads.get(query.task)
        if overload is None:
            return outcome
        if now > overload.until:
            del self.overloads[query.task]
            return outcome
        contended = _contended_instance(outcome)
        if contended is None:
            return outcome
        instance, cost = contended
        slack_s = config.default_latency_s if query.deadline_ms is None else query.deadline_ms / 1000 - now
        most_s = slack_s - idle_finish_s(instance, query.batch)
        if most_s <= 0:  # late even without waiting
            return outcome
        wait_s = overload.allowed_wait_s(query.tenant, cost, most_s, now, 1 + query.rejected_upstream)
        if wait_s < most_s and (has_hard_deadline(query) or overload.is_contested):
            rationed = choose(query, state, now, config, wait_s)
            if isinstance(rationed, Refusal) and isinstance(outcome, Choice):
                waits_s = outcome.predicted_s - idle_finish_s(instance, query.batch)
                calm = not overload.is_contested and waits_s < most_s * _WITHIN_SHARE
                rationed = beyond_limit(rationed, overload.is_contested, calm)
            outcome = rationed
        if isinstance(outcome, Choice):
            overload.admit(query.tenant, cost)
        return outcome


def _contended_instance(outcome: Choice | Refusal) -> tuple[Instance, float] | None:
    """Return the instance that the query competes for, and its cost there; None if it does not compete."""
    if isinstance(outcome, Choice):
        return None if outcome.instance is None else (outcome.instance, outcome.cost)
    return None if outcome.contended is None else (outcome.contended.replicas.first(), outcome.contended.cost)
