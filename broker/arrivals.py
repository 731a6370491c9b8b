"""Arrivals of queries: the delay before a query is sent, and the expectation of further online queries.

Delay (`Linger`). Requests cost more than records. Queries that are sent together are written, fetched, decided on,
forwarded and read together, so one delay at the entry makes all requests on the way fewer and larger.

Rules.
* No query lingers while the machine has spare CPU time. The less there is, the longer the delay. Batching lowers the
  load, so the delay settles where it pays off and does not oscillate. On a machine that is almost full the delay is
  `MOST` times as long as on one that is half full: without it, a query would wait for a core and use more of it.
* No query lingers unless others are expected meanwhile, by the recent rate of arrivals.
* No query lingers for more than a small share of the time to its deadline, nor for more than some milliseconds. A query
  with a close deadline does not linger at all.

Expectation (`OnlineArrivals`). More online queries are expected until none has come for many times the usual gap, and
for at most one second after the last one.

Pure: the caller passes the time.
"""

from math import exp
from typing import Final

SHARE: Final = 0.04
"""Share of the time to its deadline for which a query may linger."""
UNHURRIED_S: Final = 0.004
"""Seconds for which a query without a deadline may linger."""
MOST: Final = 3.0
"""Factor of the delay on a full machine."""
SPARE: Final = 0.25
"""Share of the machine's CPU time in use up to which no query lingers."""
SCARCE: Final = 0.5
"""Share at which each query lingers for as long as it may."""
FULL: Final = 0.9
"""Share from which on the delay is `MOST` times as long."""
_LEAST_OTHERS: Final = 1.0
"""Number of other queries that must be expected during the delay."""
_MEMORY_S: Final = 0.5
_IDLE_S: Final = 1.0
_USUAL_GAPS: Final = 20.0
"""Number of usual gaps after which none is expected; of queries at random times, one in 10^9 comes later."""
_LEAST_S: Final = 0.1
"""The shortest pause that counts, because a sender may be delayed by as much."""
_SMOOTHING: Final = 0.1


class OnlineArrivals:
    """Time of the last online query, and the usual gap between two."""

    __slots__ = ("_at", "_gap_s")

    def __init__(self) -> None:
        self._at = -_IDLE_S
        self._gap_s = _IDLE_S

    def came(self, now: float) -> None:
        """Record that one or several came at `now`."""
        self._gap_s += _SMOOTHING * (min(now - self._at, _IDLE_S) - self._gap_s)
        self._at = now

    def expects_more(self, now: float) -> bool:
        """Return true if another is expected soon."""
        return now - self._at < min(max(_USUAL_GAPS * self._gap_s, _LEAST_S), _IDLE_S)


class Linger:
    """Rule for the delay of the queries of one sender. Times are seconds of one monotonic clock."""

    def __init__(self, longest_s: float, *, spare: float = SPARE, scarce: float = SCARCE, most: float = MOST) -> None:
        """Limit each delay to `longest_s`; 0 disables lingering."""
        self._longest_s = longest_s
        self._spare = spare
        self._scarce = scarce
        self._most = most
        self._per_s = 0.0
        """Rate of arrivals per second, as of the last arrival."""
        self._at_s = 0.0

    def linger_s(self, now_s: float, left_s: float | None, cpu_busy: float) -> float:
        """Count the arrival of a query, and return how many seconds it may linger; call it once per query.

        Args:
            now_s: the present time.
            left_s: time until the query's deadline; None if it has none.
            cpu_busy: share of the machine's CPU time in use.
        """
        return self.kept_s(self.arrived(now_s), left_s, cpu_busy)

    def kept_s(self, per_s: float, left_s: float | None, cpu_busy: float) -> float:
        """Return how many seconds a query may linger at `per_s` arrivals per second; see `linger_s`."""
        short = (cpu_busy - self._spare) / (self._scarce - self._spare)
        if short > 1.0:
            short = 1.0 + (self._most - 1.0) * min((cpu_busy - self._scarce) / (FULL - self._scarce), 1.0)
        kept_s = min((UNHURRIED_S if left_s is None else SHARE * left_s) * short, self._longest_s)
        return kept_s if kept_s > 0 and per_s * kept_s >= _LEAST_OTHERS else 0.0

    def arrived(self, now_s: float, queries: int = 1) -> float:
        """Count queries that arrived together; return the rate of arrivals before the last of them.

        An arrival half a second ago counts a third.
        """
        per_s = self._per_s * exp(min(self._at_s - now_s, 0.0) / _MEMORY_S) + (queries - 1) / _MEMORY_S
        self._per_s = per_s + 1 / _MEMORY_S
        self._at_s = now_s
        return per_s
