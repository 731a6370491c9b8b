"""Set with random access: adding, removing and reading the n-th item take constant time."""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class IndexedSet(Generic[T]):
    """Set with its `items` in a list; a removed item's index goes to the last item."""

    __slots__ = ("_places", "items")

    def __init__(self) -> None:
        self.items: list[T] = []
        """The items in no particular order. Read-only for others."""
        self._places: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __contains__(self, item: T) -> bool:
        return item in self._places

    def add(self, item: T) -> None:
        """Add an item, if it is absent."""
        if item not in self._places:
            self._places[item] = len(self.items)
            self.items.append(item)

    def discard(self, item: T) -> None:
        """Remove an item, if it is present."""
        place = self._places.pop(item, None)
        if place is None:
            return
        last = self.items.pop()
        if last is not item:
            self.items[place] = last
            self._places[last] = place
