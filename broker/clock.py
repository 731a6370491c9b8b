"""Estimate of one broker's clock: an offset to the local monotonic clock.

Only the broker's clock decides about a query: the broker stamps each record when it appends it. The local wall clock is
not used for that. Ages and intervals that stay within a process use the monotonic clock.

An acknowledged record was appended after it was sent and before the acknowledgement arrived. This bounds the offset
from both sides; the faster the round trip, the closer the bounds. A fetched record was appended before it arrived,
which gives a lower bound.

* Bounds are intersected, so the result of a fast round trip outlasts slower ones, and many round trips together are
  more precise than the broker's milliseconds. The bounds widen with time by `_DRIFT`.
* An acknowledgement that contradicts the bounds shows that the broker's clock was set. The estimate follows at once,
  but the new bounds reach at most twice the contradiction beyond the old ones. A slow round trip on a clock that drifts
  fast thus does little harm.
* A fetched record may narrow the bounds, but never contradicts them: the log may hold records from before the clock was
  set back. A process that only fetches has no upper bound, and replaces its lower bound after `_FORGOTTEN_S`.

Until the first time is received, the wall clock is used. The embedded broker sends no times, so there it is always
used.
"""

import time
from collections.abc import Callable
from math import inf
from typing import Final

_RESOLUTION_MS: Final = 1.0
"""Brokers round their times down to a multiple of this."""
_DRIFT: Final = 2e-4
"""Largest relative difference between the rates of two clocks."""
_FORGOTTEN_S: Final = 10.0
"""Seconds after which a process that has only fetched records replaces its bound by a lower one."""


class BrokerClock:
    """Estimate of a broker's clock; updated on the event loop, readable from any thread."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.heard = False
        """True if a time of the broker was received."""
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._offset_ms = 0.0
        self._low, self._high = -inf, inf
        self._bounds_at_s = 0.0

    @property
    def offset_ms(self) -> float:
        """Offset of the broker's clock: milliseconds since the epoch less those of the monotonic clock."""
        return self._offset_ms if self.heard else (self._wall_clock() - self._monotonic()) * 1e3

    def now_ms(self) -> float:
        """Return the broker's time, in milliseconds since the epoch."""
        return self._monotonic() * 1e3 + self.offset_ms

    def now_ns(self) -> int:
        """Return the broker's time, in nanoseconds since the epoch."""
        return int(self.now_ms() * 1e6)

    def on_append(self, sent_s: float, received_s: float, append_ms: float) -> None:
        """Update the estimate from an acknowledgement.

        `sent_s` is the monotonic time at which the record was first sent, `received_s` that of the acknowledgement.
        `append_ms` is the broker's append time; negative if the broker did not send it.
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
        """Update the estimate from a record that was just fetched and that the broker itself had stamped."""
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
