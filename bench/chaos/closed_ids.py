"""Ids that have had their answer, in a byte each: a campaign of a million queries must not grow by all their names.

Clients number what they ask, so an id is a name and a number. Whatever is no such id is kept as it is.
"""

from typing import Final

_MOST: Final = 10_000_000
"""Numbers from here on are not believed to be counted."""


class ClosedIds:
    """A set of ids that only grows."""

    def __init__(self) -> None:
        self._numbered: dict[str, bytearray] = {}
        self._others: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """What the numbers of ids take."""
        return sum(map(len, self._numbered.values()))

    def __contains__(self, query_id: str) -> bool:
        name, number = _split(query_id)
        if number < 0:
            return query_id in self._others
        seen = self._numbered.get(name, b"")
        return number < len(seen) and bool(seen[number])

    def add(self, query_id: str) -> None:
        """Add an id, if it is not there."""
        if query_id in self:
            return
        self._count += 1
        name, number = _split(query_id)
        if number < 0:
            self._others.add(query_id)
            return
        seen = self._numbered.setdefault(name, bytearray())
        seen.extend(bytes(max(number + 1 - len(seen), 0)))
        seen[number] = 1


def _split(query_id: str) -> tuple[str, int]:
    """Name and number of an id; a negative number: it has none."""
    name, _, digits = query_id.rpartition("-")
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < len(str(_MOST)) else -1
    return (name, number) if str(number) == digits else ("", -1)
