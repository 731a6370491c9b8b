"""Records in flight of a producer: their outcomes, each ends once, and their limit in number and bytes.

A record with a `BatchedAck` is acknowledged together with the other records of its batch: one call instead of one for
each.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.headers import RawHeaders

log = logging.getLogger(__name__)


class Ack(NamedTuple):
    """Place where a record was written."""

    topic: str
    partition: int
    offset: int
    """-1 in the rare case that the broker only knows that it has the record."""
    timestamp: int = -1
    """Append time in milliseconds by the broker's clock; -1 if the topic keeps the sender's time."""


OnAck: TypeAlias = Callable[[Ack | KafkaError], None]
"""Callback with the outcome of a record; called once."""


class BatchedAck:
    """Callback of a record that is acknowledged together with other records of its batch."""

    __slots__ = ("sink",)

    def __init__(self, sink: "AckSink") -> None:
        self.sink = sink

    def __call__(self, outcome: Ack | KafkaError) -> None:
        """Take the outcome of this record alone."""
        self.sink((self,), outcome)


AckSink: TypeAlias = Callable[[Sequence[Any], Ack | KafkaError], None]
"""Function that takes the `BatchedAck`s of records that follow one another in the log, and the place of the first.

A record that is not acknowledged comes alone, with the error.
"""


class PendingRecord:
    """Record that is not acknowledged yet."""

    __slots__ = ("deadline", "headers", "key", "on_ack", "size", "timestamp_ms", "value")

    def __init__(
        self,
        value: bytes | None,
        key: bytes | None,
        headers: RawHeaders,
        timestamp_ms: int,
        deadline: float,
        on_ack: OnAck,
    ) -> None:
        self.value = value
        self.key = key
        self.headers = headers
        self.timestamp_ms = timestamp_ms
        self.deadline = deadline
        """Event-loop time at which the record fails."""
        self.on_ack: OnAck | None = on_ack
        """None once it was called."""
        self.size = batch_bytes(key, value, headers)
        """Largest number of bytes of a batch that holds nothing else."""


def batch_bytes(key: bytes | None, value: bytes | None, headers: RawHeaders) -> int:
    """Return the bytes of a batch with this record alone; at most some 15 too many."""
    return DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)  # pyright: ignore[reportArgumentType]


class InFlightLimit:
    """Limit for records in flight; used within one event loop. A record larger than the limit is admitted alone."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._waiters: deque[tuple[asyncio.Future[None], int]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self.records = 0
        self.bytes = 0

    def try_take(self, size: int) -> bool:
        """Admit a record; False if there is no room, or if others wait for it."""
        if self._waiters or not self._has_room(size):
            return False
        self._take(size)
        return True

    async def take_in_turn(self, size: int) -> None:
        """Admit a record once there is room and earlier callers have theirs."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (turn, size)
        self._waiters.append(waiter)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiters.remove(waiter)
                self._wake()
            else:  # it was admitted for us already
                self.release(1, size)
            raise

    def release(self, records: int, size: int) -> None:
        """Note records that have ended."""
        self.records -= records
        self.bytes -= size
        if not self.records:
            self._idle.set()
        if self._waiters:
            self._wake()

    def settle(self, record: PendingRecord, outcome: Ack | KafkaError) -> None:
        """End a record, unless it has ended."""
        on_ack = record.on_ack
        if on_ack is None:
            return
        record.on_ack = None
        self.release(1, record.size)
        try:
            on_ack(outcome)
        except Exception:  # a defect of the caller, which must not affect others
            log.exception("a callback of an acknowledgement failed")

    def acknowledge(self, records: Sequence[PendingRecord], first: Ack) -> None:
        """End the records of a written batch, unless they have ended; the first one was written at `first`."""
        topic, partition, offset, timestamp = first
        place = 0
        while place < len(records):
            on_ack = records[place].on_ack
            here = Ack(topic, partition, offset + place, timestamp) if place and offset >= 0 else first
            if isinstance(on_ack, BatchedAck):
                place += self._acknowledge_together(records, place, on_ack.sink, here)
            else:
                self.settle(records[place], here)
                place += 1

    def _acknowledge_together(self, records: Sequence[PendingRecord], place: int, sink: AckSink, first: Ack) -> int:
        """End the records from `place` on that have this sink, up to the first that has not; return their number."""
        together: list[BatchedAck] = []
        size = 0
        for record in records[place:] if place else records:
            on_ack = record.on_ack
            if not isinstance(on_ack, BatchedAck) or on_ack.sink is not sink:
                break
            record.on_ack = None
            size += record.size
            together.append(on_ack)
        self.release(len(together), size)
        try:
            sink(together, first)
        except Exception:  # as above
            log.exception("a callback of acknowledgements failed")
        return len(together)

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        await self._idle.wait()

    def _has_room(self, size: int) -> bool:
        return self.records < self._max_records and (not self.bytes or self.bytes + size <= self._max_bytes)

    def _take(self, size: int) -> None:
        self.records += 1
        self.bytes += size
        self._idle.clear()

    def _wake(self) -> None:
        """Admit the records that wait, in turn, while there is room."""
        while self._waiters and self._has_room(self._waiters[0][1]):
            turn, size = self._waiters[0]
            if turn.cancelled():  # its caller removes it, and wakes the others
                return
            self._waiters.popleft()
            self._take(size)
            turn.set_result(None)
