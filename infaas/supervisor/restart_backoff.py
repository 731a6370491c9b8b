"""Back-off between restarts of a process: none the first time, then growing pauses."""

from typing import Final

_PAUSES_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_STABLE_S: Final = 30.0
"""After this time a process counts as healthy, and the back-off starts from the beginning."""


class RestartBackoff:
    """Back-off of one process and its successors."""

    def __init__(self) -> None:
        self.deaths = 0
        """Number of ends in a row, each within `_STABLE_S` of the start."""

    def next_pause_s(self, lived_s: float) -> float:
        """Count an end, `lived_s` after the start; returns the pause before the restart."""
        if lived_s > _STABLE_S:
            self.deaths = 0
        pause_s = _PAUSES_S[min(self.deaths, len(_PAUSES_S) - 1)]
        self.deaths += 1
        return pause_s
