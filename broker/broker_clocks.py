"""The times of all brokers as one process knows them: an offset for each, over its own monotonic clock.

A record carries the time of the broker that led its partition. The clocks of two brokers may differ, and neither is
right. So the age and the deadline of a record are of the clock of its own leader, and each process knows that clock by
itself. Whoever forwards a query writes its deadline in the time of the broker that leads the partition written to.

* Of a broker that acknowledges records the offset is bounded from both sides (`clock`).
* Of one that is only read from it is bounded from below: a record is no older than it seems to be, so none expires on
  arrival. It is taken to be at most `MOST_APART_MS` behind the others, or old records would seem new.
* Where no broker is meant, as for a report's own time, one of those that acknowledge counts, the same for long.
"""

import time
from collections.abc import Callable
from typing import Final

from broker.clock import BrokerClock
from broker.kafka_types import APPEND_TIME, Record

MOST_APART_MS: Final = 1000.0
"""How far the clock of a broker may be behind that of another, as far as nothing else is known of it."""
_KEPT_S: Final = 60.0
"""Seconds without an acknowledgement after which another broker's time counts where none is meant."""


class BrokerClocks:
    """Estimates of all brokers' times; told on the event loop, asked from any thread."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._clocks: dict[int, BrokerClock] = {}
        self.acknowledging: Final = set[int]()
        """Brokers that have acknowledged records."""
        self._main = BrokerClock(monotonic, wall_clock)
        self._main_node: int | None = None
        self._main_at_s = 0.0

    @property
    def heard(self) -> bool:
        """Whether any broker has said anything."""
        return self._main.heard

    @property
    def offset_ms(self) -> float:
        """Broker's milliseconds since the epoch, less those of the monotonic clock, where no broker is meant."""
        return self._main.offset_ms

    def now_ms(self) -> float:
        """Milliseconds since the epoch, where no broker is meant."""
        return self._main.now_ms()

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, where no broker is meant."""
        return self._main.now_ns()

    def offset_of(self, node: int | None) -> float:
        """The offset of one broker; of another if nothing is known of it."""
        if node == self._main_node:
            return self._main.offset_ms
        clock = None if node is None else self._clocks.get(node)
        if clock is None:
            return self._main.offset_ms
        if node in self.acknowledging or self._main_node is None:
            return clock.offset_ms
        return max(clock.offset_ms, self._main.offset_ms - MOST_APART_MS)

    def on_append(self, node: int, sent_s: float, received_s: float, append_ms: float) -> None:
        """Learn from an acknowledgement of a broker, see `BrokerClock.on_append`."""
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
        """Learn from a record that was just fetched from a broker, which had stamped it."""
        if node is None:
            return
        self._clock(node).on_record(append_ms)
        if self._main_node is None:  # nothing better is known
            self._main.on_record(append_ms)

    def _clock(self, node: int) -> BrokerClock:
        return self._clocks.get(node) or self._clocks.setdefault(node, BrokerClock(self._monotonic, self._wall_clock))


class RecordTimes:
    """The clocks of the brokers that one consumer's records came from."""

    def __init__(self, clocks: BrokerClocks) -> None:
        self._clocks = clocks
        self._leaders: dict[tuple[str, int], int | None] = {}
        """By partition, the broker that its last records came from."""

    def on_record(self, latest: Record, leader: int | None) -> None:
        """Note the latest of the records of a partition that were just taken, and its leader."""
        self._leaders[latest.topic, latest.partition] = leader
        if latest.timestamp_type == APPEND_TIME:
            self._clocks.on_record(leader, latest.timestamp)

    def offset_ms(self, record: Record) -> float:
        """The clock of the broker that a record came from, less the monotonic one, in milliseconds."""
        return self._clocks.offset_of(self._leaders.get((record.topic, record.partition)))

    def forget(self, partition: tuple[str, int]) -> None:
        """Forget a partition that is read no more."""
        self._leaders.pop(partition, None)
