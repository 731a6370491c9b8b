"""How many offline queries an instance may be given ahead of what it has computed: pure, the clock is an argument.

What waits at an instance is overtaken by online queries but delays them all the same: it is read before them. So there
should be one batch that is computed and one that waits, and what is on the way, no more. Statuses say how much is left,
but only ten times a second, in which a fast instance computes a hundred batches. Between two statuses the level is
modelled: what is sent fills it, and it drains at the rate at which the instance was last seen to work it off.

    less is left than should be, though all was given for which there was room    more, twice as much if nothing is left
    more is left                                                                  what it has done since

So the rate finds what the instance has to spare, whatever takes the rest; other selectors' queries count as not spare.

While online queries come, the rate is at most that which leaves half a core for them, and queries are given by a few:
everyone whom they pass, from the selector to the broker, is kept by them for no longer than a millisecond.
"""

import math
from typing import Final

_PERIOD_S: Final = 0.05
"""Shortest time from which a rate is told: what changes state speaks more often than every 100 ms."""
_REACH_S: Final = 0.05
"""Seconds of work that are on the way, there and back, while everyone is busy with as many at a time as there are."""
_BURST_S: Final = 0.01
"""Seconds of work that are given at a time."""
_SHRINKAGE: Final = 0.7
"""Least share of a rate that is left after a status: a moment in which the machine did something else is no measure."""
_FEW: Final = 4
_SHARE: Final = 0.5
_OVERHEAD_S: Final = 1e-3
"""Seconds that a query costs beside its computation, in all processes together."""


class OfflinePace:
    """Pace of one instance: the offline inputs that it has, and at which rate it is given more."""

    __slots__ = (
        "_batch", "_beside", "_drain", "_given", "_left", "_level", "_level_at", "_limited", "_open", "_rate", "_since",
    )  # fmt: skip

    def __init__(self) -> None:
        self._batch = _FEW
        self._rate = 0.0
        """Inputs a second that it works off."""
        self._beside = 0.0
        """The most of it while online queries come."""
        self._drain = 0.0
        """Which of the two counts."""
        self._level = 0.0
        self._level_at = 0.0
        self._since = 0.0
        """When the rate was last told; the next three are since then."""
        self._left = 0.0
        self._given = 0.0
        self._limited = False
        """Whether more would have been given than there was room for."""
        self._open = True

    def level(self, now: float) -> float:
        """Offline inputs that wait or are computed at `now`."""
        left = self._level - (now - self._level_at) * self._drain
        return left if left > 0.0 else 0.0

    def has_room(self, inputs: int, beside: bool, now: float) -> bool:
        """Whether a query of so many inputs may be given now; `beside`: while online queries come.

        Room opens when some fit and closes when it is used up, so that queries go there by batches.
        """
        some, most = self._bounds(beside)
        level = self.level(now)
        if level <= most - some:
            self._open = True
        if self._open and (level + inputs <= most or level <= 0.0):
            return True
        self._open, self._limited = False, True
        return False

    def opens_in_s(self, beside: bool, now: float) -> float:
        """Seconds until there is room again, if no status says otherwise before."""
        some, most = self._bounds(beside)
        return max(self.level(now) - (most - some), 0.0) / self._drain if self._drain > 0.0 else math.inf

    def sent(self, inputs: int, now: float) -> None:
        """Count a query as given."""
        self._level = self.level(now) + inputs
        self._level_at = now
        self._given += inputs

    def observe(self, left: float, batch: int, input_s: float, beside: bool, now: float) -> None:
        """Take from a status how many inputs are left; `input_s` is what one takes in a full batch."""
        self._batch = batch = max(batch, _FEW)
        self._beside = _SHARE / (input_s + _OVERHEAD_S)
        self._level, self._level_at = left, now
        elapsed = now - self._since
        if elapsed < _PERIOD_S:
            return
        enough = 2 * batch + self._rate * _REACH_S
        if left > enough:
            done = max(self._left + self._given - left, 0.0) / elapsed
            self._rate = max(done, self._rate * _SHRINKAGE)
        elif self._limited:
            faster = self._beside if beside else self._rate * (2.0 - left / enough)
            self._rate = max(self._rate, faster, batch / elapsed)
        self._since, self._left, self._given, self._limited = now, left, 0.0, False

    def _bounds(self, beside: bool) -> tuple[float, float]:
        """How many inputs are given at a time, and how many there may be at most."""
        if beside:
            self._drain = min(self._rate, self._beside)
            return _FEW, 2 * _FEW
        self._drain = self._rate
        some = max(self._batch, self._drain * _BURST_S)
        return some, some + self._batch + self._drain * _REACH_S
