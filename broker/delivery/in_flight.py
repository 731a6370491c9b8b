"""Records in flight over all partitions of one consumer: bookkeeping and waiting, no Kafka.

Their number is limited: the tracker is full from `limit` records on, until a quarter of them is done. Because of this
gap, a consumer that is always full does not wake up for every single record. Their bytes are limited together with
those of the process's other consumers (`record_memory`).
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from aiokafka import TopicPartition

from broker.delivery.watermark import Watermark
from broker.kafka_types import Record
from broker.record_memory import RecordMemory

_NOT_THERE: Final = -1
"""Committed offset of a log that was replaced: the old offset may lie beyond its end."""


class InFlightTracker:
    """Tracker of the records that were handed out and are not done; used within one event loop."""

    def __init__(self, limit: int, memory: RecordMemory) -> None:
        self._limit = limit
        self._resume_at = limit * 3 // 4
        self._marks: dict[tuple[str, int], Watermark] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self._full = False
        self._has_room = asyncio.Event()
        self._memory = memory
        self._share = memory.open_share(self._has_room.set)
        self._dirty = False
        self._drain_waiters: list[asyncio.Future[None]] = []
        self.changed = asyncio.Event()
        """Set when there is something to commit."""
        self.in_flight = 0

    # -- records -------------------------------------------------------------------------------------------------------

    def hand_out(self, partition: TopicPartition, sizes: Mapping[int, int]) -> None:
        """Note records of one partition that are handed out; `sizes` are their bytes by offset, at least one."""
        first = next(iter(sizes))
        mark = self._marks.get(partition)
        if mark is not None and first < mark.next:
            # The log was cut or made again, so the old state does not apply.
            self.forget(partition)
            mark = self.track(partition, first)
            self._committed[partition] = _NOT_THERE
            self._change()
        if mark is None:
            mark = self.track(partition, first)
        before = mark.bytes
        mark.hand_out(sizes)
        self._share.take(mark.bytes - before)
        self.in_flight += len(sizes)
        if self.in_flight >= self._limit:
            self._full = True

    def pass_to(self, partition: TopicPartition, offset: int) -> None:
        """Note that no more records before `offset` will be handed out; no-op if the partition is not ours."""
        mark = self._marks.get(partition)
        if mark is not None and mark.pass_to(offset) and not mark.in_flight:
            self._change()

    def done(self, record: Record) -> None:
        """Note that a record is finished; no-op if it was before, or is no longer ours."""
        mark = self._marks.get((record.topic, record.partition))
        if mark is None:
            return
        before = mark.bytes
        if mark.finish(record.offset):
            self._change()
            self._ended(mark, before - mark.bytes)

    def give_back(self, record: Record) -> None:
        """Note that a record will not be finished here; no-op if it is finished, or is no longer ours."""
        mark = self._marks.get((record.topic, record.partition))
        if mark is None:
            return
        before = mark.bytes
        if mark.give_back(record.offset):
            self._ended(mark, before - mark.bytes)

    def _change(self) -> None:
        if not self._dirty:
            self._dirty = True
            self.changed.set()

    def _ended(self, mark: Watermark, size: int) -> None:
        self.in_flight -= 1
        self._share.give(size)
        if self._full:
            self._make_room()
        if self._drain_waiters and not mark.in_flight:
            self._wake_drained()

    async def wait_for_room(self) -> tuple[int, int]:
        """Wait while full; return how many records, and how many bytes plus one record, may be handed out now."""
        while not (room := self.room):
            self._has_room.clear()
            await self._has_room.wait()
        return room, self._share.room

    @property
    def room(self) -> int:
        """Number of records that may be handed out now."""
        return 0 if self._full or not self._share.room else self._limit - self.in_flight

    def close(self) -> None:
        """Release the memory of all records in flight; no more records are handed out."""
        self._memory.close_share(self._share)

    # -- partitions ----------------------------------------------------------------------------------------------------

    def track(self, partition: TopicPartition, start: int) -> Watermark:
        """Begin to track a partition at `start`, the position of its group."""
        mark = self._marks[partition] = Watermark(start)
        self._committed[partition] = start
        return mark

    def forget(self, partition: TopicPartition) -> None:
        """Forget a partition that is no longer ours; its records in flight will be delivered to its next owner."""
        mark = self._marks.pop(partition, None)
        self._committed.pop(partition, None)
        if mark is not None:
            self.in_flight -= mark.in_flight
            self._share.give(mark.bytes)
            self._make_room()
            self._wake_drained()

    def is_tracked(self, partition: TopicPartition) -> bool:
        """Return true if the position of the partition is known."""
        return partition in self._marks

    def position(self, partition: TopicPartition) -> int | None:
        """Return the offset behind the partition's last record handed out; None if it is not known."""
        mark = self._marks.get(partition)
        return mark.next if mark else None

    async def drained(self, partitions: Iterable[tuple[str, int]] | None = None) -> None:
        """Wait until every record in flight, of these partitions or of all, is done or forgotten."""
        keys = list(self._marks) if partitions is None else list(partitions)
        while any((mark := self._marks.get(key)) and mark.in_flight for key in keys):
            woken = asyncio.get_running_loop().create_future()
            self._drain_waiters.append(woken)
            await woken

    # -- commits -------------------------------------------------------------------------------------------------------

    def to_commit(self) -> dict[TopicPartition, int]:
        """Return the watermarks that moved since they were last committed."""
        self._dirty = False
        committed = self._committed
        return {TopicPartition(*key): mark.mark for key, mark in self._marks.items() if mark.mark > committed[key]}

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note that these watermarks were committed."""
        self._committed.update((key, offset) for key, offset in offsets.items() if key in self._committed)

    def not_committed(self) -> None:
        """Note that a commit failed, so that it is tried again."""
        self._dirty = True
        self.changed.set()

    def last_committed(self) -> dict[TopicPartition, int]:
        """Return the offsets committed last, to our knowledge, by partition."""
        return {TopicPartition(*key): offset for key, offset in self._committed.items()}

    def rewound(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note that another process committed these older offsets, so that ours are committed again."""
        self.committed(offsets)
        self.not_committed()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        if self._full and self.in_flight <= self._resume_at:
            self._full = False
            self._has_room.set()

    def _wake_drained(self) -> None:
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._drain_waiters.clear()
