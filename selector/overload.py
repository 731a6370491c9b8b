"""Who is answered while a task has more queries than time: tenants fairly, and of one tenant the cheap before the dear.

Nothing of this happens until a query of the task had to be refused because all instances that serve were too busy
(`Overloaded`). From then on, and until none has been for `_CALM_S`, this says how long each query may wait. Whoever may
wait less is refused while the queues still have room for the others:

    tenant asks for no more than its share       9/10 of what its deadline leaves, since predictions err
    asks for more, was given less than its share 3/4 of the shortest wait among the queries of the line above
    asks for more, was given its share           1/2 of it
    of both, what is dearer than its tenant's mean: less, but more than the next line

This is partial buffer sharing: the room above a threshold is kept for those who must not suffer. There is no rate to
adapt, hence nothing that can swing: a query for which an instance is idle is never refused, so the instances never want
for work. Shares are max-min, by water-filling over what each tenant asked for lately, and counted in what queries cost:
a tenant with dear needs gets as much of the machines as one with cheap ones. A tenant that is alone competes with
nobody; of its queries only the dear yield.

Offline queries yield to all others anyway, in the workers. Those without a firm deadline wait longer; they are refused
only to a tenant beyond its share.

Pure: the time comes in. A query costs a lookup and a few additions; the shares are worked out ten times a second, and
at most `_MOST_TENANTS` are told apart, so state and work are bounded.
"""

from collections.abc import Sequence
from math import exp, inf
from typing import Final

from schemas.errors import Overloaded
from schemas.needs import Mode
from schemas.query import Query
from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.policy import Choice, PolicyConfig, Refusal, choose
from selector.prediction import has_hard_deadline, idle_finish_s

_CALM_S: Final = 2.0
_PERIOD_S: Final = 0.1
_MEMORY_S: Final = 1.0
_MOST_TENANTS: Final = 256
_OTHERS: Final = ""
_MOST: Final = 0.9
"""Predictions err by some of the wait, and who waits for all of it is late half of the time."""
_WANTING: Final = 0.5
_SATED: Final = 0.25
_BAND: Final = 0.25
"""A query of mean cost may wait for so much more than the dearest."""
_NOTHING: Final = 1e-3
"""A tenant with fewer queries lately is forgotten."""
_BEYOND: Final = "too busy, and this tenant asks for more than its share; try again later"
_DEAR: Final = "too busy for queries that cost as much as this one; try again later, or ask for less"


class _Tenant:
    """What a tenant asked for and was given lately, in cost, each forgotten with time."""

    __slots__ = ("asked", "given", "queries")

    def __init__(self) -> None:
        self.queries = 0.0
        self.asked = 0.0
        self.given = 0.0


class Overload:
    """A task that is overloaded."""

    def __init__(self, now: float) -> None:
        self.until = now + _CALM_S
        """It is over then, if no query is refused before."""
        self._tenants: dict[str | None, _Tenant] = {}
        self._share = inf
        self._shortest = inf, inf
        """Seconds that queries of tenants within their share may wait at least: in this period, and in the last."""
        self._since = now

    @property
    def told_apart(self) -> int:
        """Tenants that asked lately."""
        return len(self._tenants)

    @property
    def is_contest(self) -> bool:
        """Whether there is more than one of them."""
        return self.told_apart > 1

    def wait_s(self, tenant: str | None, cost: float, most_s: float, now: float) -> float:
        """Note that a query is asked which costs `cost` and could wait for `most_s`; returns how long it may."""
        if now - self._since >= _PERIOD_S:
            self._settle(now)
        asker = self._tenant(tenant)
        asker.asked += cost
        asker.queries += 1.0
        if asker.asked <= self._share:
            self._shortest = min(self._shortest[0], most_s), self._shortest[1]
            return most_s * _MOST
        dear = min(1.0, asker.asked / asker.queries / cost) if cost > 0 else 1.0
        if not self.is_contest:
            return most_s * _MOST * dear
        minimum = _WANTING if asker.given <= self._share else _SATED
        return min(most_s, *self._shortest) * (minimum + _BAND * dear)

    def give(self, tenant: str | None, cost: float) -> None:
        """The query is answered."""
        self._tenant(tenant).given += cost

    def _tenant(self, name: str | None) -> _Tenant:
        known = self._tenants.get(name)
        if known is None:
            if len(self._tenants) >= _MOST_TENANTS:
                name = _OTHERS
            known = self._tenants.setdefault(name, _Tenant())
        return known

    def _settle(self, now: float) -> None:
        """Forget a little, and work out the shares anew."""
        kept = exp((self._since - now) / _MEMORY_S)
        self._since = now
        for tenant in self._tenants.values():
            tenant.queries *= kept
            tenant.asked *= kept
            tenant.given *= kept
        self._tenants = {name: tenant for name, tenant in self._tenants.items() if tenant.queries > _NOTHING}
        self._share = fair_share(
            [t.asked for t in self._tenants.values()], sum(t.given for t in self._tenants.values())
        )
        self._shortest = inf, self._shortest[0]


class LoadShedder:
    """Overloads of all tasks of a selector. `tasks` is empty while there is none: look there first."""

    def __init__(self) -> None:
        self.tasks: dict[str, Overload] = {}

    def begin(self, task: str, now: float) -> None:
        """A query of `task` was refused because all that serve were too busy."""
        overload = self.tasks.get(task)
        if overload is None:
            self.tasks[task] = Overload(now)
        else:
            overload.until = now + _CALM_S

    def review(
        self, query: Query, outcome: Choice | Refusal, world: ClusterState, now: float, rules: PolicyConfig
    ) -> Choice | Refusal:
        """What becomes of a query for which `choose` found `outcome`: it, or less where the query must wait less."""
        overload = self.tasks.get(query.task)
        if overload is None:
            return outcome
        if now > overload.until:
            del self.tasks[query.task]
            return outcome
        bid = _bid(outcome)
        if bid is None or query.needs.mode is Mode.OFFLINE:
            return outcome
        instance, cost = bid
        slack_s = rules.default_latency_s if query.deadline_ms is None else query.deadline_ms / 1000 - now
        most_s = slack_s - idle_finish_s(instance, query.batch)
        if most_s <= 0:  # even alone it would be late
            return outcome
        wait_s = overload.wait_s(query.tenant, cost, most_s, now)
        if wait_s < most_s and (has_hard_deadline(query) or overload.is_contest):
            rationed = choose(query, world, now, rules, wait_s)
            if isinstance(rationed, Refusal) and isinstance(outcome, Choice):
                rationed = Refusal(Overloaded(_BEYOND if overload.is_contest else _DEAR), crowded=rationed.crowded)
            outcome = rationed
        if isinstance(outcome, Choice):
            overload.give(query.tenant, cost)
        return outcome


def fair_share(asked: Sequence[float], given: float) -> float:
    """The most that anyone gets if `given` is divided max-min fairly among those who asked; infinite if it suffices."""
    for place, minimum in enumerate(sorted(asked)):
        share = given / (len(asked) - place)
        if minimum >= share:
            return share
        given -= minimum
    return inf


def _bid(outcome: Choice | Refusal) -> tuple[Instance, float] | None:
    """An instance that the query competes for, and what it costs there; None if it competes with nobody."""
    if isinstance(outcome, Choice):
        return None if outcome.instance is None else (outcome.instance, outcome.cost)
    return None if outcome.crowded is None else (outcome.crowded.replicas[0], outcome.crowded.cost)
