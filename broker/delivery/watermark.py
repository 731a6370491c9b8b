"""The low-water mark of one partition: pure bookkeeping, no I/O.

Records are handed out in the order of their offsets and are finished in any order. The mark is the lowest offset handed
out that is not finished, or, if all are, the offset after the last one: everything below it is finished, so it is what
may be committed. Offsets may have gaps (transactions, compaction); a gap is never waited for.

Hot: called twice a record by the selector. Each call is O(1) amortised, since an offset enters and leaves once.
"""

from collections import deque
from collections.abc import Sequence


class Watermark:
    """Which records of one partition are out, and up to where all are finished."""

    __slots__ = ("_open", "_order", "next")

    def __init__(self, start: int) -> None:
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self.next = start
        """Offset after the last record handed out."""

    @property
    def mark(self) -> int:
        """Everything below this offset is finished."""
        return self._order[0] if self._order else self.next

    @property
    def open(self) -> int:
        """How many records are out."""
        return len(self._open)

    def hand_out(self, offsets: Sequence[int]) -> None:
        """Take note of records handed out; `offsets` ascend from `next` on and are not empty."""
        if offsets[0] < self.next:
            raise ValueError(f"offset {offsets[0]} was handed out before: the next one is {self.next}")
        self._order.extend(offsets)
        self._open.update(offsets)
        self.next = offsets[-1] + 1

    def finish(self, offset: int) -> bool:
        """A record is finished. Returns False, and does nothing, if it was not out: finished before, or never ours."""
        opened = self._open
        if offset not in opened:
            return False
        opened.remove(offset)
        order = self._order
        while order and order[0] not in opened:
            order.popleft()
        return True
