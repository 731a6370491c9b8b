"""Estimates of the brokers' clocks: for each broker, an offset to the local monotonic clock.

Only the clocks of the brokers decide about a query: a broker stamps each record when it appends it. The local wall
clock is not used for that. Ages and intervals that stay within a process use the monotonic clock.

The clocks of two brokers may differ, and neither is right. Age and deadline of a record therefore refer to the clock of
its own leader, and each process estimates that clock by itself. A process that forwards a query writes the deadline in
the time of the target partition's leader.

One clock (`BrokerClock`).
* An acknowledged record was appended after it was sent and before the acknowledgement arrived. This bounds the offset
  from both sides; the faster the round trip, the closer the bounds. A fetched record was appended before it arrived,
  which gives a lower bound.
* Bounds are intersected, so the result of a fast round trip outlasts slower ones, and many round trips together are
  more precise than the broker's milliseconds. The bounds widen with time by `_DRIFT`.
* An acknowledgement that contradicts the bounds shows that the broker's clock was set. The estimate follows at once,
  but the new bounds reach at most twice the contradiction beyond the old ones. A slow round trip on a clock that drifts
  fast thus does little harm.
* A fetched record may narrow the bounds, but never contradicts them: the log may hold records from before the clock was
  set back. A process that only fetches has no upper bound, and replaces its lower bound after `_FORGOTTEN_S`. The
  estimated age of a record is then never more than its true age, so no record expires on arrival.
* Until the first time is received, the wall clock is used. The embedded broker sends no times, so there it is always
  used.

Several clocks (`BrokerClocks`).
* The offset of a broker that was only read from is at least that of the main broker less `MOST_APART_MS`; otherwise old
  records would seem new.
* A time that belongs to no partition, such as that of a status report, uses the clock of the main broker. This is one
  broker that acknowledges records; another one replaces it only after `_KEPT_S` without an acknowledgement.
"""

import time
from collections.abc import Callable
from math import inf
from typing import Final

from broker.kafka.types import APPEND_TIME, Record

MOST_APART_MS: Final = 1000.0
"""Milliseconds that the clock of a broker is at most assumed to be behind the main broker's, if it was only read
from."""
_KEPT_S: Final = 60.0
"""Seconds without an acknowledgement from the main broker after which another broker becomes the main one."""
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


class BrokerClocks:
    """Estimates of all brokers' clocks; updated on the event loop, readable from any thread."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._clocks: dict[int, BrokerClock] = {}
        self.acknowledging: Final = set[int]()
        """Ids of the brokers that have acknowledged records."""
        self._main = BrokerClock(monotonic, wall_clock)
        self._main_node: int | None = None
        self._main_at_s = 0.0

    @property
    def heard(self) -> bool:
        """True if the time of any broker is known."""
        return self._main.heard

    @property
    def offset_ms(self) -> float:
        """Offset of the main broker's clock: milliseconds since the epoch less those of the monotonic clock."""
        return self._main.offset_ms

    def now_ms(self) -> float:
        """Return the main broker's time, in milliseconds since the epoch."""
        return self._main.now_ms()

    def now_ns(self) -> int:
        """Return the main broker's time, in nanoseconds since the epoch."""
        return self._main.now_ns()

    def offset_of(self, node: int | None) -> float:
        """Return the offset of a broker's clock in milliseconds; that of the main broker if `node` is not known."""
        if node == self._main_node:
            return self._main.offset_ms
        clock = None if node is None else self._clocks.get(node)
        if clock is None:
            return self._main.offset_ms
        if node in self.acknowledging or self._main_node is None:
            return clock.offset_ms
        return max(clock.offset_ms, self._main.offset_ms - MOST_APART_MS)

    def on_append(self, node: int, sent_s: float, received_s: float, append_ms: float) -> None:
        """Update the estimate from an acknowledgement of a broker; see `BrokerClock.on_append`."""
        if append_ms < 0:
            return
        clock = self._clock(node)
        clock.on_append(sent_s, received_s, append_ms)
        self.acknowledging.add(node)
        if node == self._main_node:
            self._main_at_s = received_s
        elif self._main_node is None or received_s - self._main_at_s > _KEPT_S:
            self._main, self._main_node, self._main_at_s = clock, node, received_s

    def on_record(self, node: int | None, append_ms: float) -> None:
        """Update the estimate from a record that was just fetched from a broker and that this broker had stamped."""
        if node is None:
            return
        self._clock(node).on_record(append_ms)
        if self._main_node is None:  # there is no acknowledgement yet
            self._main.on_record(append_ms)

    def _clock(self, node: int) -> BrokerClock:
        return self._clocks.get(node) or self._clocks.setdefault(node, BrokerClock(self._monotonic, self._wall_clock))


class RecordTimes:
    """Clock offsets for the records of one consumer, by the leaders of their partitions."""

    def __init__(self, clocks: BrokerClocks) -> None:
        self._clocks = clocks
        self._leaders: dict[tuple[str, int], int | None] = {}
        """Broker that the last records came from, by partition."""

    def on_record(self, latest: Record, leader: int | None) -> None:
        """Note the leader of a partition; `latest` is the last record that was just fetched from it."""
        self._leaders[latest.topic, latest.partition] = leader
        if latest.timestamp_type == APPEND_TIME:
            self._clocks.on_record(leader, latest.timestamp)

    def offset_ms(self, record: Record) -> float:
        """Return the offset of the clock of the broker that a record came from, in milliseconds."""
        return self._clocks.offset_of(self._leaders.get((record.topic, record.partition)))

    def forget(self, partition: tuple[str, int]) -> None:
        """Forget a partition that is no longer read."""
        self._leaders.pop(partition, None)
