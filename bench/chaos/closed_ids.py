"""Set of answered ids, with one byte per id, so that a campaign of a million queries does not store all of them.

Clients number their queries, so an id is a name and a number. Other ids are stored in full.
"""

from typing import Final

_MOST: Final = 10_000_000
"""Numbers from here on do not count as a client's numbering."""


class ClosedIds:
    """Set of ids that only grows."""

    def __init__(self) -> None:
        self._numbered: dict[str, bytearray] = {}
        self._others: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_bytes(self) -> int:
        """Bytes that the numbered ids take."""
        return sum(map(len, self._numbered.values()))

    def __contains__(self, query_id: str) -> bool:
        name, number = _split(query_id)
        if number < 0:
            return query_id in self._others
        seen = self._numbered.get(name, b"")
        return number < len(seen) and bool(seen[number])

    def add(self, query_id: str) -> None:
        """Add an id; no-op if it is present."""
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
    """Return the name and the number of an id; the number is negative if it has none."""
    name, _, digits = query_id.rpartition("-")
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < len(str(_MOST)) else -1
    return (name, number) if str(number) == digits else ("", -1)
