"""How long a query lingers before it is sent, so that others share its requests: pure, the time comes in.

It is requests, not records, that cost. Those who are sent together are written, fetched, decided on, forwarded and read
together, so one wait, where they enter, makes all requests on their way fewer and larger.

Rules.
* While the machine has CPU time to spare nobody waits. The less there is, the longer; and as what lingers makes it less
  busy, the wait settles where it is worth it, and does not come and go. On a machine that is nearly full it is thrice
  as long as on one that is half full: what waits here would otherwise wait for a core, and take more of it.
* Nobody waits unless others are expected meanwhile, by how many came lately.
* Nobody waits for more than a small share of the time that is left until the deadline, nor for more than some
  milliseconds; so who is in a hurry does not wait at all.
"""

from math import exp
from typing import Final

SHARE: Final = 0.04
"""Share of the time until its deadline for which a query may linger."""
UNHURRIED_S: Final = 0.004
"""How long one may linger that has no deadline."""
MOST: Final = 3.0
"""Times as long on a full machine."""
SPARE: Final = 0.25
"""Share of the machine's CPU time in use up to which nobody lingers."""
SCARCE: Final = 0.5
"""Share at which each lingers for as long as it may."""
FULL: Final = 0.9
"""Share from which on it may for `MOST` times as long."""
_LEAST_OTHERS: Final = 1.0
"""Others that must be expected while one lingers."""
_MEMORY_S: Final = 0.5


class Linger:
    """Decides how long each query of one sender lingers. Times are in seconds of one monotonic clock."""

    def __init__(self, longest_s: float, *, spare: float = SPARE, scarce: float = SCARCE, most: float = MOST) -> None:
        """Keep none for longer than `longest_s`; 0: none at all."""
        self._longest_s = longest_s
        self._spare = spare
        self._scarce = scarce
        self._most = most
        self._per_s = 0.0
        """Rate of arrivals, as it was at the last one."""
        self._at_s = 0.0

    def linger_s(self, now_s: float, left_s: float | None, cpu_busy: float) -> float:
        """How long a query that comes now may linger; asked once of each.

        Args:
            now_s: the present.
            left_s: time until its deadline; None if it has none.
            cpu_busy: share of the machine's CPU time in use.
        """
        return self.kept_s(self.arrived(now_s), left_s, cpu_busy)

    def kept_s(self, per_s: float, left_s: float | None, cpu_busy: float) -> float:
        """How long one may linger while so many come in a second; see `linger_s`."""
        short = (cpu_busy - self._spare) / (self._scarce - self._spare)
        if short > 1.0:
            short = 1.0 + (self._most - 1.0) * min((cpu_busy - self._scarce) / (FULL - self._scarce), 1.0)
        kept_s = min((UNHURRIED_S if left_s is None else SHARE * left_s) * short, self._longest_s)
        return kept_s if kept_s > 0 and per_s * kept_s >= _LEAST_OTHERS else 0.0

    def arrived(self, now_s: float) -> float:
        """Count an arrival; returns the rate of those before it, of which half a second ago counts a third."""
        per_s = self._per_s * exp(min(self._at_s - now_s, 0.0) / _MEMORY_S)
        self._per_s = per_s + 1 / _MEMORY_S
        self._at_s = now_s
        return per_s
