"""The broker's time as one process knows it: an offset over its own monotonic clock.

One clock counts, that of the broker, which says of each record when it was appended. Nobody's wall clock is asked about
a query; what is only compared within a process, as ages and intervals, stays monotonic.

An acknowledged record was appended after it was sent and before the acknowledgement came: that bounds the offset from
both sides, the closer the quicker the round trip. A fetched record was appended before it came: a bound from below.

* Bounds are intersected, so what a quick round trip has shown outlasts the slow ones, and many are finer than the
  broker's milliseconds. They are loosened with time by as much as clocks drift.
* An acknowledgement that contradicts them shows that the broker's clock was set, or that another broker's counts now:
  it is followed at once, by no more than twice what is sure. So a slow round trip on a clock that drifts fast does
  little harm.
* A fetched record may narrow the bounds and not contradict them: the log may hold records from before the clock was set
  back. Who sends nothing has only these, and forgets a bound after a while.

Until something was heard the wall clock stands in, and for good on the embedded broker, which says nothing.
"""

import time
from collections.abc import Callable
from math import inf
from typing import Final

_RESOLUTION_MS: Final = 1.0
"""Brokers round down to it."""
_DRIFT: Final = 2e-4
"""How much faster one clock may run than another."""
_FORGOTTEN_S: Final = 10.0
"""How long a bound holds for who has only fetched records."""


class BrokerClock:
    """Estimate of the broker's time; told on the event loop, asked from any thread."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.heard = False
        """Whether the broker has said anything."""
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._offset_ms = 0.0
        self._low, self._high = -inf, inf
        self._bounds_at_s = 0.0

    @property
    def offset_ms(self) -> float:
        """Broker's milliseconds since the epoch, less those of the monotonic clock."""
        return self._offset_ms if self.heard else (self._wall_clock() - self._monotonic()) * 1e3

    def now_ms(self) -> float:
        """Milliseconds since the epoch, by the broker's clock."""
        return self._monotonic() * 1e3 + self.offset_ms

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, by the broker's clock."""
        return int(self.now_ms() * 1e6)

    def on_append(self, sent_s: float, received_s: float, append_ms: float) -> None:
        """Learn from an acknowledgement that came at `received_s` for what was first sent at `sent_s`, monotonic.

        `append_ms` is the broker's; negative: it did not say.
        """
        if append_ms < 0:
            return
        low, high = append_ms - received_s * 1e3, append_ms + _RESOLUTION_MS - sent_s * 1e3
        known_low, known_high = self._bounds(received_s)
        if low > known_high:
            high = min(high, 2 * low - known_high)
        elif high < known_low:
            low = max(low, 2 * high - known_low)
        else:
            low, high = max(low, known_low), min(high, known_high)
        self._believe(low, high, received_s)

    def on_record(self, append_ms: float) -> None:
        """Learn from a record that was just fetched and that the broker itself had stamped."""
        now_s = self._monotonic()
        low = append_ms - now_s * 1e3
        known_low, known_high = self._bounds(now_s)
        if known_high < inf:
            self._believe(min(max(low, known_low), known_high), known_high, now_s)
        elif low > known_low or now_s - self._bounds_at_s > _FORGOTTEN_S:
            self._believe(low, inf, now_s)

    def _bounds(self, now_s: float) -> tuple[float, float]:
        loosened = max(now_s - self._bounds_at_s, 0.0) * 1e3 * _DRIFT
        return self._low - loosened, self._high + loosened

    def _believe(self, low: float, high: float, now_s: float) -> None:
        self._low, self._high, self._bounds_at_s = low, high, now_s
        self._offset_ms = (low + (high if high < inf else low + _RESOLUTION_MS)) / 2
        self.heard = True
