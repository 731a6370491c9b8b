"""Load shedding: while a task has more queries than time, tenants get fair shares, and the cheap go before the dear.

Nothing of this happens until a query of the task had to be refused because all instances that serve were too busy
(`Overloaded`). From then on, and until none has been for `_CALM_S`, this says how long each query may wait. Whoever may
wait less is refused while the queues still have room for the others:

    tenant asks for no more than its share       70 % of what its deadline leaves, since predictions err
    asks for more, was given less than its share 55 % of the shortest wait among the queries of the line above
    asks for more, was given its share           40 % of it
    of both, what is dearer than its tenant's mean: less, but more than the next line

This is partial buffer sharing: the room above a threshold is kept for those who must not suffer. There is no rate to
adapt, hence nothing that can swing: a query for which an instance is idle is never refused, so the instances never want
for work. Shares are max-min, by water-filling over what each tenant asked for lately, and counted in what queries cost:
a tenant with dear needs gets as much of the machines as one with cheap ones. A tenant that is alone competes with
nobody; of its queries only the dear yield.

Queries without a firm deadline wait longer; they are refused only to a tenant beyond its share. Offline queries never
come here: they wait in their topic.

A name is what a client says it is, and one that invents many would get a share for each. So those that are listed
(`PolicyConfig.tenants`) have a share each, always; of the others a few have, those that came first and go on asking,
and all the rest share one. State and work are bounded by that, too.

Pure: the time comes in. A query costs a lookup and a few additions; the shares are worked out ten times a second. What
is alike to one just refused is refused with it (`selector.refused_lately`).
"""

from collections.abc import Sequence
from math import exp, inf
from typing import Final

from schemas.errors import Overloaded
from schemas.query import Query
from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.policy import Choice, PolicyConfig, Refusal, choose, has_hard_deadline
from selector.prediction import idle_finish_s
from selector.refused_lately import RefusedLately

_CALM_S: Final = 2.0
_PERIOD_S: Final = 0.1
_MEMORY_S: Final = 1.0
_OTHER_TENANTS: Final = ""
_WITHIN_SHARE: Final = 0.7
"""Share of its longest wait that a tenant within its share gets: predictions err, by a fifth on a machine that is full,
and who waits for all of it is late half of the time. A queue that is never empty needs no more."""
_UNDERSERVED: Final = 0.4
_SERVED: Final = 0.25
_COST_BAND: Final = 0.15
"""How much longer a query of mean cost may wait than the dearest, as a share of the shortest wait."""
_FORGOTTEN_BELOW: Final = 1e-3
"""Smoothed number of queries below which a tenant is forgotten."""
_BEYOND_SHARE: Final = "too busy, and this tenant asks for more than its share; try again later"
_TOO_COSTLY: Final = "too busy for queries that cost as much as this one; try again later, or ask for less"


class _Tenant:
    """Cost that a tenant asked for and was given lately, each forgotten with time."""

    __slots__ = ("asked", "given", "queries")

    def __init__(self) -> None:
        self.queries = 0.0
        self.asked = 0.0
        self.given = 0.0


class Overload:
    """The overload of one task: who asked for how much, and how long each may wait."""

    def __init__(self, now: float, config: PolicyConfig) -> None:
        self.until = now + _CALM_S
        """When the overload ends, if no query is refused before."""
        self.refused = RefusedLately()
        self._listed = frozenset(config.tenants)
        self._most_unlisted = config.max_unlisted_tenants
        self._unlisted = 0
        self._tenants: dict[str | None, _Tenant] = {}
        self._share = inf
        self._shortest = inf, inf
        """Seconds that queries of tenants within their share may wait at least: in this period, and in the last."""
        self._since = now

    @property
    def tenant_count(self) -> int:
        """Number of tenants that asked lately."""
        return len(self._tenants)

    @property
    def is_contested(self) -> bool:
        """Whether more than one tenant asked lately."""
        return self.tenant_count > 1

    def allowed_wait_s(self, tenant: str | None, cost: float, most_s: float, now: float, asked: int = 1) -> float:
        """Count a query that costs `cost` and could wait for `most_s`; returns how long it may.

        It stands for `asked` queries, of which a gateway has refused the others.
        """
        asking = self.ask(tenant, cost, now, asked)
        if asking.asked <= self._share:
            self._shortest = min(self._shortest[0], most_s), self._shortest[1]
            return most_s * _WITHIN_SHARE
        dear = min(1.0, asking.asked / asking.queries / cost) if cost > 0 else 1.0
        if not self.is_contested:
            return most_s * _WITHIN_SHARE * dear
        minimum = _UNDERSERVED if asking.given <= self._share else _SERVED
        return min(most_s, *self._shortest) * (minimum + _COST_BAND * dear)

    def ask(self, tenant: str | None, cost: float, now: float, asked: int = 1) -> _Tenant:
        """Count a query that costs `cost` and stands for `asked`; returns who asks."""
        if now - self._since >= _PERIOD_S:
            self._update_shares(now)
        asking = self._tenant(tenant)
        asking.asked += cost * asked
        asking.queries += asked
        return asking

    def admit(self, tenant: str | None, cost: float) -> None:
        """Count a query as admitted, and what it costs as given to the tenant."""
        self._tenant(tenant).given += cost

    def _tenant(self, name: str | None) -> _Tenant:
        known = self._tenants.get(name)
        if known is not None:
            return known
        if name in self._listed:
            return self._tenants.setdefault(name, _Tenant())
        if self._unlisted >= self._most_unlisted:
            return self._tenants.setdefault(_OTHER_TENANTS, _Tenant())
        self._unlisted += 1
        return self._tenants.setdefault(name, _Tenant())

    def _update_shares(self, now: float) -> None:
        """Forget a little, and compute the shares again."""
        decay = exp((self._since - now) / _MEMORY_S)
        self._since = now
        for tenant in self._tenants.values():
            tenant.queries *= decay
            tenant.asked *= decay
            tenant.given *= decay
        self._tenants = {name: tenant for name, tenant in self._tenants.items() if tenant.queries > _FORGOTTEN_BELOW}
        self._unlisted = len(self._tenants.keys() - self._listed - {_OTHER_TENANTS})
        self._share = fair_share(
            [t.asked for t in self._tenants.values()], sum(t.given for t in self._tenants.values())
        )
        self._shortest = inf, self._shortest[0]


class LoadShedder:
    """Overloads of all tasks of a selector. `overloads` is empty while there is none: look there first."""

    def __init__(self, config: PolicyConfig) -> None:
        self._config = config
        self.overloads: dict[str, Overload] = {}

    def decide(self, query: Query, state: ClusterState, now: float) -> Choice | Refusal:
        """Choose where a query goes, as `choose` does, or refuse it where it must yield to others."""
        if not self.overloads:
            outcome = choose(query, state, now, self._config)
        else:
            known = self._refused_alike(query, now)
            if known is not None:
                return known
            outcome = self.review(query, choose(query, state, now, self._config), state, now)
        if isinstance(outcome, Refusal) and outcome.contended is not None:
            self._report_overload(query, outcome, state, now)
        return outcome

    def _refused_alike(self, query: Query, now: float) -> Refusal | None:
        """The refusal of one alike that is the query's, too, which is counted with it; None: there is none."""
        overload = self.overloads.get(query.task)
        if overload is None or now > overload.until:
            return None
        known = overload.refused.find(query, now)
        if known is not None and known.contended is not None:
            overload.ask(query.tenant, known.contended.cost, now, 1 + query.turned_away)
        return known

    def _report_overload(self, query: Query, refusal: Refusal, state: ClusterState, now: float) -> None:
        """Begin or prolong an overload: a query was refused because all that serve its task were too busy."""
        overload = self.overloads.get(query.task)
        if overload is None:
            overload = self.overloads[query.task] = Overload(now, self._config)
        overload.until = now + _CALM_S
        task = state.seen_in(query)
        if task is not None and not task.canaries:  # else one like it may be drawn for a version that has room
            overload.refused.keep(query, refusal, now)

    def review(self, query: Query, outcome: Choice | Refusal, state: ClusterState, now: float) -> Choice | Refusal:
        """The outcome for a query for which `choose` found `outcome`: that, or less where the query must wait less."""
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
        most_s = slack_s - idle_finish_s(instance, query.batch, query.streamed)
        if most_s <= 0:  # even alone it would be late
            return outcome
        wait_s = overload.allowed_wait_s(query.tenant, cost, most_s, now, 1 + query.turned_away)
        if wait_s < most_s and (has_hard_deadline(query) or overload.is_contested):
            rationed = choose(query, state, now, config, wait_s)
            if isinstance(rationed, Refusal) and isinstance(outcome, Choice):
                why = _BEYOND_SHARE if overload.is_contested else _TOO_COSTLY
                error = Overloaded(why, retry_after_s=rationed.error.retry_after_s)
                rationed = Refusal(error, contended=rationed.contended)
            outcome = rationed
        if isinstance(outcome, Choice):
            overload.admit(query.tenant, cost)
        return outcome


def fair_share(asked: Sequence[float], given: float) -> float:
    """The most that anyone gets if `given` is divided max-min fairly among those who asked; infinite if it suffices."""
    for place, minimum in enumerate(sorted(asked)):
        share = given / (len(asked) - place)
        if minimum >= share:
            return share
        given -= minimum
    return inf


def _contended_instance(outcome: Choice | Refusal) -> tuple[Instance, float] | None:
    """Instance that the query competes for, and what it costs there; None if it competes with nobody."""
    if isinstance(outcome, Choice):
        return None if outcome.instance is None else (outcome.instance, outcome.cost)
    return None if outcome.contended is None else (outcome.contended.replicas.first(), outcome.contended.cost)
