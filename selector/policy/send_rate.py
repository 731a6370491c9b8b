"""Rate of the queries sent to a worker: since its last status, smoothed, and of the present burst."""

import math
from dataclasses import dataclass
from typing import Final

_BURST_S: Final = 0.05
"""Time constant in seconds of the recent rate of sends: some dozen queries of a burst that could fill a machine."""


@dataclass(slots=True, eq=False)
class SendRate:
    """Queries sent to one worker, with the expected ones of other selectors."""

    queries: float = 0.0
    """Queries sent since the last status."""
    per_s: float = 0.0
    """The same a second, smoothed over about a second."""
    decayed: float = 0.0
    """Recent sends with exponential decay, as of `decayed_at`."""
    decayed_at: float = 0.0

    def count(self, now: float, queries: float) -> None:
        """Count a query that is sent now; it stands for `queries` of all selectors that send here."""
        self.queries += queries
        self.decayed, self.decayed_at = self._decayed(now) + queries, now

    def settle(self, elapsed_s: float) -> None:
        """Update the smoothed rate at a status, `elapsed_s` after the one before."""
        if elapsed_s > 0:
            per_s, self.queries = self.queries / elapsed_s, 0.0
            self.per_s += min(elapsed_s, 1.0) * (per_s - self.per_s)

    def burst(self, now: float) -> float:
        """Return the queries a second beyond the rate at which the worker's CPU use was measured."""
        return max(self._decayed(now) / _BURST_S - self.per_s, 0.0)

    def _decayed(self, now: float) -> float:
        return self.decayed * math.exp((self.decayed_at - now) / _BURST_S)
