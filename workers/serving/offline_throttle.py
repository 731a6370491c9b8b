"""Pace of offline queries: when an instance reads them from their topic, and how many. Pure: the clock is an argument.

Offline queries delay online ones by a batch that cannot be interrupted, and by decoding and answering. So an instance
reads only enough to keep its slots busy until the next check, plus one query, because decoding a large query takes
longer than a batch of it. It reads none while an online query waits.

While online queries come, it reads a few at a time, at a rate that leaves half a core for them. So each process on the
path, from the selector to the broker that takes the results, is busy with them for a millisecond or two at most.
"""

import math
from typing import Final, NamedTuple

from schemas.offline_share import offline_pause_s

_FEW: Final = 4
_LOOK_S: Final = 0.1
"""Seconds between two checks if online queries still come."""
_SMOOTHING: Final = 0.1


class QueuedInputs(NamedTuple):
    """Inputs that an instance has read and not yet computed."""

    online: int
    offline: int


class OfflineThrottle:
    """Pace of offline queries of one instance."""

    def __init__(self) -> None:
        self._next_s = -math.inf
        self._mean_inputs = 1.0
        """Inputs of an offline query, smoothed."""

    def room(self, queued: QueuedInputs, enough: int, *, online: bool, now_s: float) -> int:
        """Return the number of queries to read. `enough` inputs keep all slots busy; `online`: such queries come."""
        if queued.online or (online and now_s < self._next_s):
            return 0
        missing = (_FEW if online else enough + self._mean_inputs) - queued.offline
        return math.ceil(missing / self._mean_inputs) if missing > 0 else 0

    def look_again_s(self, now_s: float) -> float | None:
        """Return the seconds until there may be room even if no batch ends; None: only the end of a batch does."""
        return min(self._next_s - now_s, _LOOK_S) if self._next_s > now_s else None

    def took(
        self, queries: int, inputs: int, input_s: float, *, online: bool, now_s: float, share: float = 1.0
    ) -> None:
        """Record the queries that were read; each of their inputs takes `input_s` seconds."""
        self._mean_inputs += _SMOOTHING * (max(inputs / queries, 1.0) - self._mean_inputs)
        if online:
            self._next_s = now_s + offline_pause_s(queries, inputs * input_s, share)
