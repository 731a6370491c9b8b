"""How long to wait before a process that ended is started again: not at all the first time, then ever longer."""

from typing import Final

_PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_STABLE_S: Final = 30.0
"""A process that ran for so long counts as healthy: its next death is the first again."""


class RestartBackoff:
    """Pauses between the ends of a process and the starts of its successors."""

    def __init__(self) -> None:
        self.deaths = 0
        """Ends in a row, each soon after its start."""

    def next_pause_s(self, lived_s: float) -> float:
        """Count an end, `lived_s` after the start; returns for how long to wait."""
        if lived_s > _STABLE_S:
            self.deaths = 0
        pause_s = _PAUSES_S[min(self.deaths, len(_PAUSES_S) - 1)]
        self.deaths += 1
        return pause_s
