"""Limit of concurrent queries, adapted to the share of late answers. Pure; the time is an argument.

A selector refuses because of queues at the workers. It does not see queues before itself: in the gateway, and on the
way of results. If these are the bottleneck, as with tiny models at thousands of queries a second, every admitted query
is late. The gateway therefore limits its queries in flight. Rules:

* A kind of queries is a task, a tenant and a time budget in steps of half an octave. Queries without a deadline, or
  with permission to be late, have no limit.
* A kind has no limit until more than `_ALLOWED` of its answers are late over some intervals.
* By Little's law the limit is the number of answers within a target time: the shortest observed time plus a share of
  the rest of the budget. The share changes with the distance of the late share from `_ALLOWED`. It soon returns to 1 if
  no query is late or refused; then there is no limit.
* The limit uses the highest recent rate. Fewer queries in flight form smaller batches and reduce the rate, so a limit
  that followed the present rate would lower itself.
* A query is not refused while its tenant has less in flight than an equal share.
* Refused queries count as demand: the next admitted query of the kind reports their number.

The design follows Netflix' concurrency-limits (2018), with the product of rate and delay that BBR (2016) uses.
"""

from math import inf, log2
from typing import Final

from schemas.errors import Overloaded, RefusalReason
from schemas.query import MAX_REJECTED_UPSTREAM, Query

_MOMENT_S: Final = 0.1
_LATE: Final = 0.95
"""Share of its budget after which an answer counts as late; the rest is for the ways from and to the client."""
_ALLOWED: Final = 0.04
"""Permitted share of late answers among admitted queries."""
_SMOOTH: Final = 0.15
"""Weight of one interval in the share of late answers: a single stalled interval does not exceed `_ALLOWED`."""
_STEP: Final = 0.01
_MOST_STEP: Final = 0.05
_LEAST_SHARE: Final = 0.6
_FADE: Final = 0.95
"""Factor by which the highest rate decays in each interval."""
_REST_S: Final = 1.0
_LEAST: Final = 8.0
"""Minimum limit: so few queries form no queue."""
_WINDOW_S: Final = 10.0
"""Minimum seconds for which the shortest time is remembered."""
_MOST: Final = 1024


class ConcurrencyLimit:
    """State of one kind of queries."""

    __slots__ = (
        "_answered",
        "_budget_s",
        "_ends",
        "_late",
        "_late_share",
        "_rate",
        "_refused",
        "_rejected_upstream",
        "_share",
        "_shortest_s",
        "_shortest_s_before",
        "_window_ends",
        "in_flight",
        "limit",
        "tenant",
    )

    def __init__(self, tenant: str | None, budget_s: float, now: float) -> None:
        self.tenant = tenant
        self.in_flight = 0
        self.limit = inf
        self._rejected_upstream = 0
        self._budget_s = budget_s
        self._rate = self._late_share = 0.0
        self._share = 1.0
        self._shortest_s = self._shortest_s_before = inf
        self._window_ends = now + _WINDOW_S
        self._begin_moment(now)

    @property
    def target_s(self) -> float:
        """Target time of a query in seconds while the limit binds."""
        shortest_s = self._shortest()
        return shortest_s + self._share * max(self._budget_s - shortest_s, 0.0)

    def refusal(self) -> Overloaded:
        """Count a refused query; return its error."""
        self._refused += 1
        self._rejected_upstream = min(self._rejected_upstream + 1, MAX_REJECTED_UPSTREAM)
        return Overloaded(reason=RefusalReason.CONCURRENCY_LIMIT, retry_after_s=self.target_s)

    def take_rejected_upstream(self) -> int:
        """Return the number of queries refused since the last admitted one, which is to report it; reset it to 0."""
        rejected_upstream, self._rejected_upstream = self._rejected_upstream, 0
        return rejected_upstream

    def rested(self, now: float) -> None:
        """Record that no query was in flight until `now`; drop a limit that is older than `_REST_S`."""
        if self.limit < inf and now > self._ends + _REST_S:
            self._share, self._late_share, self.limit = 1.0, 0.0, inf

    def answered(self, took_s: float, left_s: float, now: float) -> None:
        """Record the time `took_s` of an answer, or of a timeout, and the budget `left_s` that it had."""
        self._answered += 1
        self._late += took_s > _LATE * left_s
        self._shortest_s = min(self._shortest_s, took_s)
        if now >= self._ends:
            self._end_moment(now)

    def _end_moment(self, now: float) -> None:
        self._rate = max(self._answered / (now - self._ends + _MOMENT_S), _FADE * self._rate)
        self._late_share += _SMOOTH * (self._late / self._answered - self._late_share)
        self._share = min(max(self._share + self._step(), _LEAST_SHARE), 1.0)
        self.limit = inf if self._share == 1.0 else max(self._rate * self.target_s, _LEAST)
        if now >= self._window_ends and self.limit == inf:  # while a limit binds, every observed time includes waiting
            self._shortest_s_before, self._shortest_s = self._shortest_s, inf
            self._window_ends = now + _WINDOW_S
        self._begin_moment(now)

    def _step(self) -> float:
        """Return the change of the share after this interval."""
        if not self._late and not self._refused:
            return _MOST_STEP
        return max(_STEP * (1.0 - self._late_share / _ALLOWED), -_MOST_STEP)

    def _begin_moment(self, now: float) -> None:
        self._ends = now + _MOMENT_S
        self._answered = self._late = self._refused = 0

    def _shortest(self) -> float:
        return min(self._shortest_s, self._shortest_s_before)


class ConcurrencyLimits:
    """Limits of all kinds of queries of one gateway."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._kinds: dict[tuple[str, str | None, int], ConcurrencyLimit] = {}
        self._by_tenant: dict[str | None, int] = {}
        """Queries in flight by tenant, without zeros."""
        self.in_flight = 0
        """Number of queries that entered and have not left."""

    def enter(self, query: Query, now: float) -> ConcurrencyLimit | None:
        """Admit a query, which must `leave` later; return None if it has no limit.

        Raises:
            Overloaded: too many queries of its kind are in flight.
        """
        deadline_ms = query.deadline_ms
        if deadline_ms is None or query.needs.allow_late:
            return None
        kind = self._kind(query, deadline_ms - query.sent_ms, now)
        if not kind.in_flight:
            kind.rested(now)
        of_tenant = self._by_tenant.get(kind.tenant, 0)
        if kind.in_flight >= kind.limit and of_tenant * len(self._by_tenant) >= self.in_flight:
            raise kind.refusal()
        self._by_tenant[kind.tenant] = of_tenant + 1
        self.in_flight += 1
        kind.in_flight += 1
        return kind

    def leave(self, kind: ConcurrencyLimit | None) -> None:
        """Record the end of an admitted query, whatever its outcome."""
        if kind is None:
            return
        kind.in_flight -= 1
        self.in_flight -= 1
        left = self._by_tenant[kind.tenant] - 1
        if left:
            self._by_tenant[kind.tenant] = left
        else:
            del self._by_tenant[kind.tenant]

    def _kind(self, query: Query, budget_ms: float, now: float) -> ConcurrencyLimit:
        steps = round(2 * log2(max(budget_ms, 1.0)))
        key = query.task, query.tenant, steps
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= self._most:
                del self._kinds[next(iter(self._kinds))]
            kind = self._kinds[key] = ConcurrencyLimit(query.tenant, 2 ** (steps / 2) / 1e3, now)
        return kind
