"""How many queries may be on their way at once, as answers that come late show: pure, the time comes in.

A selector refuses for what waits before workers. It does not see what waits before itself, in a gateway and on the way
back: where those are what is full, as with tiny models at thousands of queries a second, all that it lets through is
late. So a gateway bounds what it has on its way. Rules.

* A kind is a task, a tenant and a time to answer, in steps of half an octave. Queries that may take any time, or come
  late, are bounded by nothing.
* A kind has no limit until more than `_ALLOWED` of its answers are late, over some moments, and have waited: took
  longer than the shortest seen. A kind that always takes nearly all of its time is so not taken for one that waits.
* The limit is, by Little's law, what is answered within the shortest time seen and a share of what the deadline leaves
  beyond it. The share moves by how far late answers are from what is allowed, and is soon all of it where nothing is
  late or refused; then there is no limit.
* It counts on the highest rate of late: fewer on their way travel in smaller batches, so fewer are answered, and a
  limit that followed the present rate would lower itself.
* Nobody is refused who has less on its way than an equal part for each tenant.
* Who was refused here has asked all the same: the next query of the kind says how many they were.

It is a concurrency limit as of Netflix' concurrency-limits (2018), with the product of rate and delay that BBR (2016)
bounds a connection by.
"""

from math import inf, log2
from typing import Final

from schemas.errors import Overloaded
from schemas.query import MAX_TURNED_AWAY, Query

_MOMENT_S: Final = 0.1
_LATE: Final = 0.95
"""Share of its time after which an answer is late: the way from and to the client takes some, too."""
_ALLOWED: Final = 0.04
"""Share of late answers of those let through that there may be."""
_SMOOTH: Final = 0.15
"""Weight of one moment in the share of late answers: one that was stopped is not yet too much."""
_QUEUE: Final = 0.1
"""Share of its time that answers wait on average where there is a queue at all."""
_STEP: Final = 0.01
_MOST_STEP: Final = 0.05
_LEAST_SHARE: Final = 0.6
_FADE: Final = 0.95
"""What of the highest rate is left after a moment."""
_REST_S: Final = 1.0
_LEAST: Final = 8.0
"""A limit is never less: so few are no queue."""
_WINDOW_S: Final = 10.0
"""For how long the shortest time is remembered, at least."""
_MOST: Final = 1024


class QueryKind:
    """What is known of the queries of one kind."""

    __slots__ = (
        "_answered",
        "_budget_s",
        "_ends",
        "_late",
        "_late_share",
        "_rate",
        "_refused",
        "_share",
        "_shortest_s",
        "_shortest_s_before",
        "_took_s",
        "_turned_away",
        "_window_ends",
        "in_flight",
        "limit",
        "tenant",
    )

    def __init__(self, tenant: str | None, budget_s: float, now: float) -> None:
        self.tenant = tenant
        self.in_flight = 0
        self.limit = inf
        self._turned_away = 0
        self._budget_s = budget_s
        self._rate = self._late_share = 0.0
        self._share = 1.0
        self._shortest_s = self._shortest_s_before = inf
        self._window_ends = now + _WINDOW_S
        self._begin_moment(now)

    @property
    def target_s(self) -> float:
        """Seconds that a query may take while the limit binds."""
        shortest_s = self._shortest()
        return shortest_s + self._share * max(self._budget_s - shortest_s, 0.0)

    def refusal(self) -> Overloaded:
        """Count a query that is not let through; returns its error."""
        self._refused += 1
        self._turned_away = min(self._turned_away + 1, MAX_TURNED_AWAY)
        return Overloaded(retry_after_s=self.target_s)

    def take_turned_away(self) -> int:
        """Return how many were refused since the last that was let through, for it to say so."""
        turned_away, self._turned_away = self._turned_away, 0
        return turned_away

    def rested(self, now: float) -> None:
        """Learn that none was on its way until now, and forget a limit of long ago."""
        if self.limit < inf and now > self._ends + _REST_S:
            self._share, self._late_share, self.limit = 1.0, 0.0, inf

    def answered(self, took_s: float, left_s: float, now: float) -> None:
        """Learn from an answer, or that there was none, and how long it took of the time that was left for it."""
        self._answered += 1
        self._late += took_s > _LATE * left_s
        self._took_s += took_s
        self._shortest_s = min(self._shortest_s, took_s)
        if now >= self._ends:
            self._end_moment(now)

    def _end_moment(self, now: float) -> None:
        self._rate = max(self._answered / (now - self._ends + _MOMENT_S), _FADE * self._rate)
        self._late_share += _SMOOTH * (self._late / self._answered - self._late_share)
        self._share = min(max(self._share + self._step(), _LEAST_SHARE), 1.0)
        self.limit = inf if self._share == 1.0 else max(self._rate * self.target_s, _LEAST)
        if now >= self._window_ends and self.limit == inf:  # where it binds, nothing is seen that has not waited
            self._shortest_s_before, self._shortest_s = self._shortest_s, inf
            self._window_ends = now + _WINDOW_S
        self._begin_moment(now)

    def _step(self) -> float:
        """By how much the share moves after this moment."""
        if not self._late and not self._refused:
            return _MOST_STEP
        waited_s = self._took_s / self._answered - self._shortest()
        step = max(_STEP * (1.0 - self._late_share / _ALLOWED), -_MOST_STEP)
        return step if step > 0.0 or waited_s > _QUEUE * self._budget_s else 0.0

    def _begin_moment(self, now: float) -> None:
        self._ends = now + _MOMENT_S
        self._answered = self._late = self._refused = 0
        self._took_s = 0.0

    def _shortest(self) -> float:
        return min(self._shortest_s, self._shortest_s_before)


class ConcurrencyLimits:
    """Limits of all kinds that one gateway is asked."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._kinds: dict[tuple[str, str | None, int], QueryKind] = {}
        self._by_tenant: dict[str | None, int] = {}
        """Those in flight of each tenant who has any."""
        self.in_flight = 0
        """Number of queries that entered and have not left."""

    def enter(self, query: Query, now: float) -> QueryKind | None:
        """Let a query through, which is to leave again; None: it is bounded by nothing.

        Raises:
            Overloaded: there are too many of its kind.
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

    def leave(self, kind: QueryKind | None) -> None:
        """Let a query that has entered go, however it went."""
        if kind is None:
            return
        kind.in_flight -= 1
        self.in_flight -= 1
        left = self._by_tenant[kind.tenant] - 1
        if left:
            self._by_tenant[kind.tenant] = left
        else:
            del self._by_tenant[kind.tenant]

    def _kind(self, query: Query, budget_ms: float, now: float) -> QueryKind:
        steps = round(2 * log2(max(budget_ms, 1.0)))
        key = query.task, query.tenant, steps
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= self._most:
                del self._kinds[next(iter(self._kinds))]
            kind = self._kinds[key] = QueryKind(query.tenant, 2 ** (steps / 2) / 1e3, now)
        return kind
