"""Pauses of a polling loop. Pure.

A poll without a result costs CPU time of Postgres and of this process. While polls find nothing, the pause doubles, up
to eight times the shortest pause.
"""

from typing import Final

_LONGEST: Final = 8


class IdlePause:
    """Pause between two polls; a poll that finds something resets it to the shortest."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._next_s = shortest_s

    def after(self, found: bool) -> float:
        """Return the seconds to wait after a poll; `found` is true if the poll found something."""
        pause_s = self._shortest_s if found else self._next_s
        self._next_s = min(2 * pause_s, _LONGEST * self._shortest_s)
        return pause_s
