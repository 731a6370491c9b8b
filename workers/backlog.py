"""Counts the inputs that are read and not answered: what a query that comes now would wait behind."""

from collections.abc import Collection

from workers.crash_journal import RecordKey


class InstanceBacklog:
    """Inputs one instance holds, by the place of their record."""

    def __init__(self) -> None:
        self._held: dict[RecordKey, tuple[int, int]] = {}
        self.online = 0
        self.offline = 0

    def hold(self, place: RecordKey, online: int, offline: int) -> None:
        """A record with so many inputs was read."""
        self._held[place] = (online, offline)
        self.online += online
        self.offline += offline

    def drop(self, place: RecordKey) -> None:
        """A record is done; no-op if it was dropped before."""
        online, offline = self._held.pop(place, (0, 0))
        self.online -= online
        self.offline -= offline

    def drop_partitions(self, partitions: Collection[int]) -> None:
        """All records of these partitions are somebody else's."""
        for place in [place for place in self._held if place[1] in partitions]:
            self.drop(place)
