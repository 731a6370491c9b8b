"""Fetch session of a reader with a broker: a request names only partitions that changed (KIP-227).

    first request: all -> the broker's answer names the session -> the next ones: moved partitions, removed ones
                                                                -> any doubt: all again, in place of the old session

Rules.
* A request without an answer leaves a doubt: the broker may or may not have applied it.
* A broker that gives no session gets all partitions each time. Kafka keeps a bounded number of sessions, the embedded
  broker none.

Pure: no I/O.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from aiokafka import TopicPartition

Place: TypeAlias = tuple[int, int, int]
"""Offset from which a partition is read, epoch of the leader that wrote the record before it, and largest number of
bytes."""

ONCE: Final = -1
"""Epoch of a request without a session."""
_ALL: Final = 0
"""Epoch of a request that begins a session, and ends the one that it names."""
_LAST: Final = 2**31 - 1


class SessionRequest(NamedTuple):
    """Part of a fetch request that depends on the session."""

    session: int
    epoch: int
    read: list[tuple[TopicPartition, Place]]
    """Partitions that are new to the broker or have moved; the others of the session are read as well."""
    forget: list[TopicPartition]


class FetchSession:
    """Fetch session of one reader with one broker: one request after the other."""

    def __init__(self, *, lasting: bool = True) -> None:
        """Ask the broker to keep a session, if `lasting`."""
        self._lasting = lasting
        self._id = 0
        self._epoch = self._next = _ALL if lasting else ONCE
        self._known: Mapping[TopicPartition, Place] = {}

    def request(self, wanted: Mapping[TopicPartition, Place]) -> SessionRequest:
        """Return the next request for these partitions, in this order."""
        known, self._known = (self._known if self._epoch > _ALL else {}), wanted
        read = [item for item in wanted.items() if known.get(item[0]) != item[1]]
        forget = [partition for partition in known if partition not in wanted]
        request = SessionRequest(self._id, self._epoch, read, forget)
        if self._lasting:
            self._epoch, self._next = _ALL, self._epoch % _LAST + 1  # a new session, unless this one is answered
        return request

    def answered(self, session: int) -> None:
        """Note that the request was answered under this session; 0: the broker gives none."""
        self._id = session
        if session and self._lasting:
            self._epoch = self._next
