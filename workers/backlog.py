"""Count of the inputs that are read and not answered: what a query that comes now would wait behind."""

from collections.abc import Collection
from typing import Final, NamedTuple

from workers.crash_journal import RecordKey


class Held(NamedTuple):
    """Inputs of a record, by how they wait."""

    online: int = 0
    large: int = 0
    """Of a large online query: other online work is computed between its pieces."""
    offline: int = 0


class InstanceBacklog:
    """Inputs that one instance holds, by the key of their record."""

    def __init__(self) -> None:
        self._held: dict[RecordKey, Held] = {}
        self.online = 0
        """Inputs of online queries that are not large."""
        self.large = 0
        self.large_queries = 0
        self.offline = 0

    def add(self, key: RecordKey, held: Held) -> None:
        """Count a record, which was read."""
        self._held[key] = held
        self._count(held, 1)

    def remove(self, key: RecordKey) -> None:
        """Count a record as done; no-op if it was removed before."""
        self._count(self._held.pop(key, _NOTHING), -1)

    def remove_partitions(self, partitions: Collection[int]) -> None:
        """Count no record of these partitions any more: they are somebody else's."""
        for key in [key for key in self._held if key[1] in partitions]:
            self.remove(key)

    def _count(self, held: Held, sign: int) -> None:
        self.online += sign * held.online
        self.offline += sign * held.offline
        if held.large:
            self.large += sign * held.large
            self.large_queries += sign


_NOTHING: Final = Held()
