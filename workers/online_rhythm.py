"""Whether online queries are coming: pure, the clock is an argument.

They are, until none has come for many times as long as it usually takes, and at the latest a second after the last one:
a second without an online query is idle.
"""

from typing import Final

_IDLE_S: Final = 1.0
_USUAL_GAPS: Final = 20.0
"""Gaps as long as usual after which none is expected: of queries at random times one in 10^9 comes later."""
_LEAST_S: Final = 0.1
"""The shortest pause that counts: who sends them may have been held up for as long."""
_SMOOTHING: Final = 0.1


class OnlineRhythm:
    """When online queries last came, and how far apart they usually are."""

    __slots__ = ("_at", "_gap_s")

    def __init__(self) -> None:
        self._at = -_IDLE_S
        self._gap_s = _IDLE_S

    def came(self, now: float) -> None:
        """Note that one came at `now`, or several at once."""
        self._gap_s += _SMOOTHING * (min(now - self._at, _IDLE_S) - self._gap_s)
        self._at = now

    def expects_more(self, now: float) -> bool:
        """Whether the next one is likely to come at any moment."""
        return now - self._at < min(max(_USUAL_GAPS * self._gap_s, _LEAST_S), _IDLE_S)
