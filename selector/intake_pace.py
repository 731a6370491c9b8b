"""How long the selector rests between two fetches, so that each brings more: pure, the time comes in.

Queries of a gateway or of our library have lingered for each other where they entered, and come in waves
(`broker/linger.py`). Those of any other producer come one by one, and each would make a fetch, two produce requests and
a fetch of whoever reads the answer, just when the machine has no time for them. For these the selector lingers.

Rules.
* Only where CPU time is nearly used up: a wait of ours is seen by everybody, one at the entrance by who is there.
* As long as the query in the greatest hurry of those that were just taken may linger, hence for a small share of what
  its deadline leaves. Not at all if one of them has lingered already.
"""

from typing import Final

from broker.linger import Linger

SPARE: Final = 0.75
"""Share of the machine's CPU time in use up to which the selector never rests."""
SCARCE: Final = 0.95
"""Share from which on it rests for as long as it may."""
LONGEST_S: Final = 0.01
"""Longest rest, whatever the deadlines leave."""


class IntakePace:
    """Decides on each rest, of what was taken since the last one."""

    def __init__(self, longest_s: float) -> None:
        """Rest for no longer than `longest_s`, and no longer than `LONGEST_S`; 0: never."""
        self._linger = Linger(min(longest_s, LONGEST_S), spare=SPARE, scarce=SCARCE, most=1.0)
        self._forget()

    def take(self, now_s: float, left_s: float | None) -> None:
        """Take into account a query that nobody has kept.

        Args:
            now_s: the present, in seconds of a monotonic clock.
            left_s: time until its deadline; None if it has none.
        """
        self._per_s = self._linger.arrived(now_s)
        if left_s is not None and (self._left_s is None or left_s < self._left_s):
            self._left_s = left_s

    def take_lingered(self) -> None:
        """Take into account a query that was kept where it entered."""
        self._lingered = True

    def rest_s(self, cpu_busy: float) -> float:
        """Seconds to rest now, with this share of the machine's CPU time in use."""
        rest_s = 0.0 if self._lingered else self._linger.kept_s(self._per_s, self._left_s, cpu_busy)
        self._forget()
        return rest_s

    def _forget(self) -> None:
        self._per_s, self._lingered = 0.0, False
        self._left_s: float | None = None
