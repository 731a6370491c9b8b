"""Levels of urgency: coarse bounds of the time to a query's deadline, by which workers report the work that waits.

Each bound is twice the one before, so that a level says about as much of 60 ms as of 2 s.
"""

from bisect import bisect_left
from typing import Final

URGENCY_BOUNDS_S: Final = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
LEAST_URGENT: Final = len(URGENCY_BOUNDS_S)
"""Level of queries with more time than the last bound, and of those without a deadline."""


def urgency_level(left_s: float) -> int:
    """Return the level of a query with `left_s` seconds to its deadline; 0 is the most urgent."""
    return bisect_left(URGENCY_BOUNDS_S, left_s)
