"""Records in flight: those of one partition with its watermark, those of one consumer, and their memory. No I/O.

    records taken -> counted in their consumer's share -> share full: the consumer waits -> records done -> it goes on

Watermark. Records are handed out in the order of their offsets and finished in any order. The watermark is the lowest
offset that was handed out and is not finished, or the offset behind the last one if all are finished. Everything below
it is finished, so it may be committed. Offsets may have gaps (transactions, compaction), which the watermark passes.

Memory of a process. A record counts with the result that follows from it, until it is done. Half of the limit is
divided evenly among the shares, so large records of one consumer do not block others. The other half is first come,
first served. All shares together take records up to the limit, plus one record each: a record is taken if there is any
room at all, so that a record larger than the limit can pass, too. Results of records that were taken before come on
top; no more is taken until they are done.

A consumer that is full, in number or in bytes, has room again when a quarter is done or free: so a consumer that is
always full does not wake up for every single record.

Hot: the selector calls the tracker and the watermark twice per record. Each call of the watermark is O(1) amortised,
since an offset enters and leaves once.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aiokafka import TopicPartition

from broker.kafka.types import Record

_RESUME: Final = 0.75
"""Part of a limit that was reached at which there is room again."""
_NOT_THERE: Final = -1
"""Committed offset of a log that was replaced: the old offset may lie beyond its end."""


class Watermark:
    """Records in flight of one partition, and its watermark."""

    __slots__ = ("_in_flight", "_limit", "_order", "bytes", "next")

    def __init__(self, start: int) -> None:
        self._order: deque[int] = deque()
        self._in_flight: dict[int, int] = {}
        """Bytes by offset."""
        self.bytes = 0
        """Bytes of the records in flight."""
        self._limit = sys.maxsize
        """Lowest offset that was given back."""
        self.next = start
        """Offset behind the last record handed out, and behind the offsets passed after it."""

    @property
    def mark(self) -> int:
        """Offset below which all records are finished."""
        return min(self._order[0] if self._order else self.next, self._limit)

    @property
    def in_flight(self) -> int:
        """Number of records that are in flight."""
        return len(self._in_flight)

    def hand_out(self, sizes: Mapping[int, int]) -> None:
        """Note records that are handed out; `sizes` are their bytes by offset, ascending from `next` on and not empty.

        Raises:
            ValueError: an offset was handed out before.
        """
        first = next(iter(sizes))
        if first < self.next:
            raise ValueError(f"offset {first} was handed out before: the next one is {self.next}")
        self._order.extend(sizes)
        self._in_flight.update(sizes)
        self.bytes += sum(sizes.values())
        self.next = self._order[-1] + 1

    def pass_to(self, offset: int) -> bool:
        """Note that nothing between `next` and `offset` will be handed out; False if there is nothing between."""
        if offset <= self.next:
            return False
        self.next = offset
        return True

    def grow(self, offset: int, size: int) -> int:
        """Count at least `size` bytes for a record in flight; return the added bytes."""
        known = self._in_flight.get(offset)
        if known is None or known >= size:
            return 0
        self._in_flight[offset] = size
        self.bytes += size - known
        return size - known

    def give_back(self, offset: int) -> bool:
        """Note that a record in flight will not be finished here, so that the watermark stays below it.

        False if it was not in flight.
        """
        if not self.finish(offset):
            return False
        self._limit = min(self._limit, offset)
        return True

    def finish(self, offset: int) -> bool:
        """Note that a record is finished; False, without effect, if it was finished before or never handed out."""
        in_flight = self._in_flight
        size = in_flight.pop(offset, None)
        if size is None:
            return False
        self.bytes -= size
        order = self._order
        while order and order[0] not in in_flight:
            order.popleft()
        return True


class RecordMemory:
    """Memory limit shared by the consumers of one event loop."""

    def __init__(self, limit: int) -> None:
        self._common = limit // 2
        self._dealt = limit - self._common
        self._shares: set[MemoryShare] = set()
        self._full: set[MemoryShare] = set()
        self.used = 0
        """Bytes in flight of all shares."""

    def open_share(self, on_room: Callable[[], None]) -> "MemoryShare":
        """Open the share of another consumer; `on_room` is called when the share has room after it was full."""
        share = MemoryShare(self, on_room)
        self._shares.add(share)
        return share

    def close_share(self, share: "MemoryShare") -> None:
        """Close a share: release its bytes, and divide its part of the limit among the others."""
        share.give(share.used)
        self._shares.discard(share)
        self._full.discard(share)
        for full in list(self._full):
            self._look_at(full)

    def room(self, share: "MemoryShare") -> int:
        """Return the bytes that a share may take, plus one record; 0 if it is full, until its `on_room` is called."""
        even = self._even
        room = max(even - share.used, self._common + even - self.used)
        if room <= 0:
            self._full.add(share)
        return 0 if share in self._full else room

    def change(self, share: "MemoryShare", size: int) -> None:
        """Count bytes that a share took; a negative size releases bytes."""
        self.used += size
        if size >= 0 or not self._full:
            return
        if self.used <= (self._common + self._even) * _RESUME:
            for full in list(self._full):
                self._end_wait(full)
        elif share in self._full:
            self._look_at(share)

    @property
    def _even(self) -> int:
        return max(self._dealt // max(len(self._shares), 1), 1)

    def _look_at(self, share: "MemoryShare") -> None:
        if share.used <= self._even * _RESUME:
            self._end_wait(share)

    def _end_wait(self, share: "MemoryShare") -> None:
        self._full.discard(share)
        share.on_room()


class MemoryShare:
    """Share of one consumer in the memory limit."""

    def __init__(self, memory: RecordMemory, on_room: Callable[[], None]) -> None:
        self.used = 0
        """Bytes in flight of this consumer."""
        self.on_room = on_room
        self._memory = memory

    @property
    def room(self) -> int:
        """Bytes that may be taken, plus one record; 0 if there is no room, until `on_room` is called."""
        return self._memory.room(self)

    def take(self, size: int) -> None:
        """Count bytes that were taken."""
        self.used += size
        self._memory.change(self, size)

    def give(self, size: int) -> None:
        """Release bytes that are no longer in flight."""
        self.used -= size
        self._memory.change(self, -size)


class InFlightTracker:
    """Tracker of the records that were handed out and are not done; used within one event loop."""

    def __init__(self, limit: int, memory: RecordMemory) -> None:
        self._limit = limit
        self._resume_at = int(limit * _RESUME)
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

    def done(self, *records: Record) -> None:
        """Note that records are finished; no-op for records that were before, or are no longer ours."""
        ended = size = 0
        for record in records:
            mark = self._marks.get((record.topic, record.partition))
            if mark is not None:
                before = mark.bytes
                if mark.finish(record.offset):
                    ended += 1
                    size += before - mark.bytes
        if ended:
            self._change()
            self._ended(ended, size)

    def hold(self, record: Record, size: int) -> None:
        """Note that a record in flight and its result hold `size` bytes together; no-op if it is no longer ours."""
        mark = self._marks.get((record.topic, record.partition))
        if mark is not None and (added := mark.grow(record.offset, size)):
            self._share.take(added)

    def give_back(self, record: Record) -> None:
        """Note that a record will not be finished here; no-op if it is finished, or is no longer ours."""
        mark = self._marks.get((record.topic, record.partition))
        if mark is None:
            return
        before = mark.bytes
        if mark.give_back(record.offset):
            self._ended(1, before - mark.bytes)

    def _change(self) -> None:
        if not self._dirty:
            self._dirty = True
            self.changed.set()

    def _ended(self, records: int, size: int) -> None:
        self.in_flight -= records
        self._share.give(size)
        if self._full:
            self._make_room()
        if self._drain_waiters:
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
