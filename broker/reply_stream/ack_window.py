"""Items of a connection that were sent and are not acknowledged: in order, bounded in number and bytes. Pure."""

from collections import deque
from typing import Final, Generic, TypeVar

MAX_FRAMES: Final = 4096
MAX_BYTES: Final = 4 * 1024 * 1024

_Item = TypeVar("_Item")


class AckWindow(Generic[_Item]):
    """Items of one connection that were sent and are not acknowledged."""

    def __init__(self, max_items: int = MAX_FRAMES, max_bytes: int = MAX_BYTES) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[tuple[int, _Item]] = deque()
        self._due = 0
        """Number of items that had been sent at the last call of `is_late`."""
        self.bytes = 0
        self.sent = 0
        self.acknowledged = 0

    def __len__(self) -> int:
        return len(self._items)

    def has_room(self, size: int) -> bool:
        """Return true if an item of `size` bytes may be sent."""
        return len(self._items) < self._max_items and self.bytes + size <= self._max_bytes

    def add(self, size: int, item: _Item) -> None:
        """Note that an item was sent."""
        self._items.append((size, item))
        self.bytes += size
        self.sent += 1

    def acknowledge(self, count: int) -> list[_Item]:
        """Remove and return the items that are acknowledged once the first `count` items have been received.

        Raises:
            ValueError: fewer items were sent, or more were acknowledged before.
        """
        if not self.acknowledged <= count <= self.sent:
            raise ValueError(f"{count} acknowledged after {self.acknowledged}, of {self.sent} sent")
        taken = [self._take() for _ in range(count - self.acknowledged)]
        self.acknowledged = count
        return taken

    def is_late(self) -> bool:
        """Return true if an item is unacknowledged that had been sent before the previous call."""
        late = self.acknowledged < self._due
        self._due = self.sent
        return late

    def clear(self) -> list[_Item]:
        """Remove and return all unacknowledged items."""
        return [self._take() for _ in range(len(self._items))]

    def _take(self) -> _Item:
        size, item = self._items.popleft()
        self.bytes -= size
        return item
