"""How long to wait before looking again, where no event tells: pure.

A look in vain costs Postgres and us CPU time, so while nothing is found pauses double, up to eight times the shortest.
"""

from typing import Final

_LONGEST: Final = 8


class IdlePause:
    """Pause between two looks; whoever hears of something new begins with short ones again."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._next_s = shortest_s

    def after(self, found: bool) -> float:
        """Seconds to wait after a look that found something, or nothing."""
        pause_s = self._shortest_s if found else self._next_s
        self._next_s = min(2 * pause_s, _LONGEST * self._shortest_s)
        return pause_s
