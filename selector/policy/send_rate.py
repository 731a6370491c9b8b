"""Rate of the queries sent to a worker: since its last status, and smoothed."""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class SendRate:
    """Queries sent to one worker, with the expected ones of other selectors."""

    queries: float = 0.0
    """Queries sent since the last status."""
    per_s: float = 0.0
    """The same a second, smoothed over about a second."""

    def count(self, queries: float) -> None:
        """Count a query that is sent now; it stands for `queries` of all selectors that send here."""
        self.queries += queries

    def settle(self, elapsed_s: float) -> None:
        """Update the smoothed rate at a status, `elapsed_s` after the one before."""
        if elapsed_s > 0:
            per_s, self.queries = self.queries / elapsed_s, 0.0
            self.per_s += min(elapsed_s, 1.0) * (per_s - self.per_s)
