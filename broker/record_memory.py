"""Memory limit for the records in flight of a process: how many bytes each consumer may hold.

    records taken -> counted in their consumer's share -> share full: the consumer waits -> records done -> it goes on

Rules.
* Half of the limit is divided evenly among the shares, so large records of one consumer do not block others. The other
  half is first come, first served. All shares together hold at most the limit, plus one record each: a record is taken
  if there is any room at all, so that a record larger than the limit can pass, too.
* A full share has room again when a quarter of it is free, so a consumer is not woken for every single record.

Pure bookkeeping: no I/O and no Kafka.
"""

from collections.abc import Callable
from typing import Final

from broker.kafka_types import Record

_RESUME: Final = 0.75
"""Part of a full share's limit at which it has room again."""
_RECORD_BYTES: Final = 500
"""Approximate bytes that a record takes beside its contents."""


def record_bytes(record: Record) -> int:
    """Return the approximate bytes that a record takes in memory."""
    size = _RECORD_BYTES + len(record.key or b"") + len(record.value or b"")
    for name, text in record.headers:
        size += len(name) + len(text or b"")
    return size


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
