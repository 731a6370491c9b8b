"""Count of the inputs that are read and not answered: what a query that comes now would wait behind."""

from collections.abc import Collection

from workers.crash_journal import RecordKey


class InstanceBacklog:
    """Inputs that one instance holds, by the key of their record."""

    def __init__(self) -> None:
        self._held: dict[RecordKey, tuple[int, int]] = {}
        self.online = 0
        self.offline = 0

    def add(self, key: RecordKey, online: int, offline: int) -> None:
        """Count a record with so many inputs, which was read."""
        self._held[key] = (online, offline)
        self.online += online
        self.offline += offline

    def remove(self, key: RecordKey) -> None:
        """Count a record as done; no-op if it was removed before."""
        online, offline = self._held.pop(key, (0, 0))
        self.online -= online
        self.offline -= offline

    def remove_partitions(self, partitions: Collection[int]) -> None:
        """Count no record of these partitions any more: they are somebody else's."""
        for key in [key for key in self._held if key[1] in partitions]:
            self.remove(key)
