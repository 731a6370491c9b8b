"""How many offline queries an instance may be given ahead of what it has computed: pure, the clock is an argument.

What waits at an instance is overtaken by online queries but delays them all the same: it is read before them. So there
should be one batch that is computed and one that waits, no more. Statuses say how much is left, but only ten times a
second, in which a fast instance computes a hundred batches. Between two statuses the level is modelled: what is sent
fills it, and it drains at the rate at which the instance was last seen to work off what it was given.

    less than a batch is left, though it was given all that it might have    it can do more: twice the rate
    two batches or more are left                                             the rate is what it has done since

So the rate finds what the instance has to spare, whatever takes the rest, and other selectors' queries count as less to
spare. While online queries come, the model is believed by half, and a batch is given only when none is left.
"""

import math
from typing import Final

_PERIOD_S: Final = 0.05
"""Shortest time from which a rate is told: what changes state speaks more often than every 100 ms."""
_QUIET_S: Final = 1.0
_BESIDE_ONLINE: Final = 0.5
"""Share of its rate that an instance gets while online queries come."""
_LEAST_BATCH: Final = 8
"""Inputs that count as a batch of an instance with smaller ones: a query alone is not worth a look."""


class OfflinePace:
    """Pace of one instance: the offline inputs that it has, and at which rate it is given more."""

    __slots__ = ("_batch", "_given", "_left", "_level", "_level_at", "_limited", "_open", "_rate", "_share", "_since")

    def __init__(self) -> None:
        self._batch = _LEAST_BATCH
        self._rate = 0.0
        self._share = 1.0
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
        left = self._level - (now - self._level_at) * self._rate * self._share
        return left if left > 0.0 else 0.0

    def has_room(self, inputs: int, online_at: float, now: float) -> bool:
        """Whether a query of so many inputs may be given now; an online query was last seen at `online_at`.

        Room opens when a batch fits and closes when it is used up, so that queries go there by batches.
        """
        most = self._most(online_at, now)
        level = self.level(now)
        if level <= most - self._batch:
            self._open = True
        if self._open and (level + inputs <= most or level <= 0.0):
            return True
        self._open, self._limited = False, True
        return False

    def opens_in_s(self, online_at: float, now: float) -> float:
        """Seconds until there is room again, if no status says otherwise before."""
        rate, most = self._rate * self._share, self._most(online_at, now)
        return max(self.level(now) - (most - self._batch), 0.0) / rate if rate > 0.0 else math.inf

    def sent(self, inputs: int, now: float) -> None:
        """Count a query as given."""
        self._level = self.level(now) + inputs
        self._level_at = now
        self._given += inputs

    def observe(self, left: float, batch: int, now: float) -> None:
        """Take from a status how many inputs are left."""
        self._batch = batch = max(batch, _LEAST_BATCH)
        self._level, self._level_at = left, now
        elapsed = now - self._since
        if elapsed < _PERIOD_S:
            return
        if left >= 2 * batch:
            self._rate = max(self._left + self._given - left, 0.0) / elapsed
        elif left < batch and self._limited:
            self._rate = max(2 * self._rate, batch / elapsed)
        self._since, self._left, self._given, self._limited = now, left, 0.0, False

    def _most(self, online_at: float, now: float) -> float:
        quiet = now - online_at > _QUIET_S
        self._share = 1.0 if quiet else _BESIDE_ONLINE
        return (2 if quiet else 1) * self._batch
