"""When an instance takes offline queries out of their topic, and how many: pure, the clock is an argument.

What it has taken delays what is online, by one batch that cannot be interrupted, and by reading and answering. So it
takes only what keeps its slots busy until the next look, and a query more, for a large one takes longer to be read than
a batch of it to be computed; and nothing while an online query waits.

While online queries come, it takes a few at a time, at a rate that leaves half a core for them: everything that an
offline query passes, from the selector to the broker that takes its result, is kept by these few for no longer than a
millisecond or two.
"""

import math
from typing import Final, NamedTuple

_FEW: Final = 4
_SHARE: Final = 0.5
_OVERHEAD_S: Final = 1e-3
"""Seconds that a query costs beside its computation, in all processes together."""
_LOOK_S: Final = 0.1
"""Seconds after which it is looked again whether online queries still come."""
_SMOOTHING: Final = 0.1


class QueuedInputs(NamedTuple):
    """Inputs that an instance has read and does not compute yet."""

    online: int
    offline: int


class OfflinePace:
    """Pace of one instance."""

    def __init__(self) -> None:
        self._next_s = -math.inf
        self._mean_inputs = 1.0
        """Inputs of an offline query, smoothed."""

    def room(self, queued: QueuedInputs, enough: int, *, online: bool, now_s: float) -> int:
        """Queries that may be taken now; 0: none. `enough` inputs keep all slots busy; `online`: such queries come."""
        if queued.online or (online and now_s < self._next_s):
            return 0
        missing = (_FEW if online else enough + self._mean_inputs) - queued.offline
        return math.ceil(missing / self._mean_inputs) if missing > 0 else 0

    def look_again_s(self, now_s: float) -> float | None:
        """Seconds until there may be room though no batch ends; None: there will not."""
        return min(self._next_s - now_s, _LOOK_S) if self._next_s > now_s else None

    def took(self, queries: int, inputs: int, input_s: float, *, online: bool, now_s: float) -> None:
        """Note what was taken, of which an input takes so long."""
        self._mean_inputs += _SMOOTHING * (max(inputs / queries, 1.0) - self._mean_inputs)
        if online:
            self._next_s = now_s + (inputs * input_s + queries * _OVERHEAD_S) / _SHARE
