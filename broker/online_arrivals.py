"""Rhythm of online queries: predicts if more are coming. Pure: the clock is an argument.

More are expected until none has come for many times the usual gap, and for at most one second after the last one.
"""

from typing import Final

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
