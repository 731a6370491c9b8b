"""Delay between two fetches of a selector, in which queries of producers that do not linger come together.

Queries of gateways and our client library linger at their source and arrive in waves (`broker/arrivals.py`). Those of
other producers arrive one by one. Each then causes a fetch, two produce requests and a fetch by the reader of the
answer, at a time when the machine has no CPU to spare. For these queries the selector lingers: only when CPU time is
nearly used up, and only for a small share of the nearest deadline among the queries just taken; not at all if one of
them has lingered already.
"""

from typing import Final

from broker.arrivals import Linger

SPARE: Final = 0.75
"""Used share of the machine's CPU time up to which there is no delay."""
SCARCE: Final = 0.95
"""Used share from which on the delay is the longest allowed."""
LONGEST_S: Final = 0.01
"""Longest delay in seconds, whatever the deadlines."""


class FetchDelay:
    """Delay between two fetches, by the queries taken since the last one. Pure: the caller passes the time."""

    def __init__(self, longest_s: float) -> None:
        """Delay for at most `longest_s`, and at most `LONGEST_S`; 0 disables it."""
        self._linger = Linger(min(longest_s, LONGEST_S), spare=SPARE, scarce=SCARCE, most=1.0)
        self._forget()

    def take(self, now_s: float, left_s: float | None, queries: int = 1) -> None:
        """Count queries that have not lingered.

        Args:
            now_s: the present, in seconds of a monotonic clock.
            left_s: time until the nearest of their deadlines; None if they have none.
            queries: number of queries, at least 1.
        """
        self._per_s = self._linger.arrived(now_s, queries)
        if left_s is not None and (self._left_s is None or left_s < self._left_s):
            self._left_s = left_s

    def take_lingered(self) -> None:
        """Count a query that has lingered at its source."""
        self._lingered = True

    def rest_s(self, cpu_busy: float) -> float:
        """Return the seconds to delay now, given the used share of the machine's CPU time."""
        rest_s = 0.0 if self._lingered else self._linger.kept_s(self._per_s, self._left_s, cpu_busy)
        self._forget()
        return rest_s

    def _forget(self) -> None:
        self._per_s, self._lingered = 0.0, False
        self._left_s: float | None = None
