"""Backlog of an instance: the inputs that it has read and not answered, and that a new query waits behind."""

from collections.abc import Collection
from typing import Final, NamedTuple

from workers.crash_journal import RecordKey


class Held(NamedTuple):
    """Inputs of one record, by kind of work."""

    online: int = 0
    large: int = 0
    """Inputs of a large online query; other online work is computed between its pieces."""
    offline: int = 0


class InstanceBacklog:
    """Inputs that one instance holds, by record key."""

    def __init__(self) -> None:
        self._held: dict[RecordKey, Held] = {}
        self.online = 0
        """Inputs of online queries that are not large."""
        self.large = 0
        self.large_queries = 0
        self.offline = 0

    def add(self, key: RecordKey, held: Held) -> None:
        """Count the inputs of a record that was read."""
        self._held[key] = held
        self._count(held, 1)

    def remove(self, key: RecordKey) -> None:
        """Remove a record that is done; no-op if it was removed before."""
        self._count(self._held.pop(key, _NOTHING), -1)

    def remove_partitions(self, partitions: Collection[int]) -> None:
        """Remove all records of these partitions, because another worker owns them now."""
        for key in [key for key in self._held if key[1] in partitions]:
            self.remove(key)

    def _count(self, held: Held, sign: int) -> None:
        self.online += sign * held.online
        self.offline += sign * held.offline
        if held.large:
            self.large += sign * held.large
            self.large_queries += sign


_NOTHING: Final = Held()
