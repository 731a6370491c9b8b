"""Sampling: the first process of a query decides if it is traced, and `traceparent` carries the decision. Pure.

The library's own samplers decide alike, but take seven microseconds for a query that is not sampled, which is a fifth
of a selector's time for it.
"""

from process.tracing.settings import Sampler
from schemas.trace_context import TraceContext, is_sampled, parse_traceparent

_RATIOS = {
    Sampler.ALWAYS_ON: 1.0,
    Sampler.ALWAYS_OFF: 0.0,
    Sampler.PARENT_ALWAYS_ON: 1.0,
    Sampler.PARENT_ALWAYS_OFF: 0.0,
}


class Sampling:
    """Sampling of one process."""

    def __init__(self, sampler: Sampler, ratio: float) -> None:
        self.ratio = _RATIOS.get(sampler, ratio)
        """Share of the queries without a decision that are sampled."""
        self.parent_based = sampler.startswith("parentbased")
        """True if the client's decision counts."""


class TraceLimit:
    """Token bucket for traced queries: it holds those of one second."""

    def __init__(self, most_per_s: float, now_s: float) -> None:
        self._most_per_s = most_per_s
        self._left = self._most = max(most_per_s, 1.0)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take a token; return false if there is none."""
        self._left = min(self._left + (now_s - self._at_s) * self._most_per_s, self._most)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def sampled_parent(traceparent: str) -> TraceContext | None:
    """Return the span that a header names, if it is sampled; else None."""
    return parse_traceparent(traceparent) if is_sampled(traceparent) else None
