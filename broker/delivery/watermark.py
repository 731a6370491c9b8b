"""The watermark of one partition, up to which all its records are finished: pure bookkeeping, no I/O.

Records are handed out in the order of their offsets and are finished in any order. The mark is the lowest offset handed
out that is not finished, or, if all are, the offset after the last one: everything below it is finished, so it is what
may be committed. Offsets may have gaps (transactions, compaction); a gap is never waited for.

Hot: called twice a record by the selector. Each call is O(1) amortised, since an offset enters and leaves once.
"""

import sys
from collections import deque
from collections.abc import Mapping


class Watermark:
    """Records of one partition that are in flight, and the offset up to which all are finished."""

    __slots__ = ("_in_flight", "_limit", "_order", "bytes", "next")

    def __init__(self, start: int) -> None:
        self._order: deque[int] = deque()
        self._in_flight: dict[int, int] = {}
        """Size by offset."""
        self.bytes = 0
        """Sum of the sizes of what is in flight."""
        self._limit = sys.maxsize
        """The lowest offset given back."""
        self.next = start
        """Offset after the last record handed out, and after what was passed behind it."""

    @property
    def mark(self) -> int:
        """Offset below which everything is finished."""
        return min(self._order[0] if self._order else self.next, self._limit)

    @property
    def in_flight(self) -> int:
        """Number of records that are in flight."""
        return len(self._in_flight)

    def hand_out(self, sizes: Mapping[int, int]) -> None:
        """Note records that are handed out, their sizes by offset; these ascend from `next` on and are not empty."""
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
        """Note that a record in flight will not be finished here: the mark stays below it; False if it was not."""
        if not self.finish(offset):
            return False
        self._limit = min(self._limit, offset)
        return True

    def finish(self, offset: int) -> bool:
        """Note that a record is finished; False, and nothing else, if it was finished before or never handed out."""
        in_flight = self._in_flight
        size = in_flight.pop(offset, None)
        if size is None:
            return False
        self.bytes -= size
        order = self._order
        while order and order[0] not in in_flight:
            order.popleft()
        return True
