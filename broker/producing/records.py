"""Records in flight of a producer: their outcomes, each ends once, and their limit in number and bytes."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.headers import RawHeaders


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
