"""Watermark of one partition: the offset below which all its records are finished. Pure bookkeeping, no I/O.

Records are handed out in the order of their offsets and finished in any order. The watermark is the lowest offset that
was handed out and is not finished, or the offset behind the last one if all are finished. Everything below it is
finished, so it may be committed. Offsets may have gaps (transactions, compaction), which the watermark passes.

Hot: the selector calls it twice per record. Each call is O(1) amortised, since an offset enters and leaves once.
"""

import sys
from collections import deque
from collections.abc import Mapping


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
