"""Back-off between restarts of a process: none the first time, then growing pauses."""

import math
import time
from collections.abc import Callable
from typing import Final

from process.backoff import Backoff

STABLE_S: Final = 30.0
"""After this time a process counts as healthy, and the back-off starts from the beginning."""
_BACKOFF: Final = Backoff(first_s=0.5, longest_s=10.0)


class RestartBackoff:
    """Back-off of one process and its successors; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = math.inf
        self._ends = 0

    @property
    def quick_ends(self) -> int:
        """Number of ends in a row, each within `STABLE_S` of the start; 0 once the process has run for longer."""
        return 0 if self._clock() - self._began_s > STABLE_S else self._ends

    def started(self) -> None:
        """Note that the process was started now."""
        self._began_s = self._clock()

    def ended(self) -> float:
        """Count an end, or a start that failed; return the pause in seconds before the restart."""
        ends = self.quick_ends
        self._began_s, self._ends = math.inf, ends + 1
        return _BACKOFF.pause_s(ends) if ends else 0.0
