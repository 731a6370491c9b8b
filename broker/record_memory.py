"""Memory of the records that a process has taken and not finished: how many bytes of them each consumer may hold.

    records taken -> bytes of the share that took them -> no room: its consumer waits -> some are done -> it goes on

Rules.
* Half of the limit is dealt out evenly among the shares, so large records of one hold up no other; the other half is
  for whoever comes first. So all of them together hold the limit at most, and each one record more: it is taken as
  soon as there is any room at all, so that one larger than the limit passes, too.
* A share that is full has room again when a quarter of that is free, so nobody wakes up for every single record.

Pure bookkeeping: no I/O and no Kafka.
"""

from collections.abc import Callable
from typing import Final

from broker.kafka_types import Record

_RESUME: Final = 0.75
"""Fraction of what a full share may hold at which there is room again."""
_RECORD_BYTES: Final = 500
"""Bytes, about, that a record takes beside its contents."""


def record_bytes(record: Record) -> int:
    """Bytes, about, that a record takes in memory."""
    size = _RECORD_BYTES + len(record.key or b"") + len(record.value or b"")
    for name, text in record.headers:
        size += len(name) + len(text or b"")
    return size


class RecordMemory:
    """Memory of the records in flight of all consumers that share it, in one event loop."""

    def __init__(self, limit: int) -> None:
        self._common = limit // 2
        self._dealt = limit - self._common
        self._shares: set[MemoryShare] = set()
        self._full: set[MemoryShare] = set()
        self.used = 0
        """Bytes in flight of all shares."""

    def open_share(self, on_room: Callable[[], None]) -> "MemoryShare":
        """Return the share of one more consumer; `on_room` is called when there is room after there was none."""
        share = MemoryShare(self, on_room)
        self._shares.add(share)
        return share

    def close_share(self, share: "MemoryShare") -> None:
        """Take back what a share still holds, and deal it out to the others."""
        share.give(share.used)
        self._shares.discard(share)
        self._full.discard(share)
        for full in list(self._full):
            self._look_at(full)

    def room(self, share: "MemoryShare") -> int:
        """Bytes that a share may take, and one record more; 0: none, until it is told."""
        even = self._even
        room = max(even - share.used, self._common + even - self.used)
        if room <= 0:
            self._full.add(share)
        return 0 if share in self._full else room

    def change(self, share: "MemoryShare", size: int) -> None:
        """Count bytes that a share took, or gives back where it is less than 0."""
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
    """Part of one consumer in the memory of the records in flight."""

    def __init__(self, memory: RecordMemory, on_room: Callable[[], None]) -> None:
        self.used = 0
        """Bytes in flight of this consumer."""
        self.on_room = on_room
        self._memory = memory

    @property
    def room(self) -> int:
        """Bytes that may be taken, and one record more; 0: none, until `on_room` is called."""
        return self._memory.room(self)

    def take(self, size: int) -> None:
        """Count bytes that were taken."""
        self.used += size
        self._memory.change(self, size)

    def give(self, size: int) -> None:
        """Count bytes that are no longer in flight."""
        self.used -= size
        self._memory.change(self, -size)
