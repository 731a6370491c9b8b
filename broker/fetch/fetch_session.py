"""What a broker knows already of what is read from it, so that a request names only what is new (KIP-227).

    first request: all -> the broker's answer names the session -> the next ones: what moved, what is no longer read
                                                                -> any doubt: all again, in place of the old session

Rules.
* In doubt is whatever was not answered: whether the broker took that request cannot be told.
* A broker that gives no session (it keeps a bounded number of them, the embedded one none) is told all each time.

Pure: no I/O.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from aiokafka import TopicPartition

Place: TypeAlias = tuple[int, int, int]
"""Offset from which a partition is read, epoch of the leader that wrote the record before it, and bytes at most."""

ONCE: Final = -1
"""Epoch of a request that wants no session."""
_ALL: Final = 0
"""Epoch of a request that begins a session, and ends the one that it names."""
_LAST: Final = 2**31 - 1


class SessionRequest(NamedTuple):
    """Part of a fetch request that depends on the session."""

    session: int
    epoch: int
    read: list[tuple[TopicPartition, Place]]
    """What the broker does not know yet; what it knows is read as well."""
    forget: list[TopicPartition]


class FetchSession:
    """Session of one reader with one broker: one request after the other."""

    def __init__(self, *, lasting: bool = True) -> None:
        """One that is not `lasting` tells the broker to remember nothing."""
        self._lasting = lasting
        self._id = 0
        self._epoch = self._next = _ALL if lasting else ONCE
        self._known: Mapping[TopicPartition, Place] = {}

    def request(self, wanted: Mapping[TopicPartition, Place]) -> SessionRequest:
        """Make the next request for these partitions, the first ones first."""
        known, self._known = (self._known if self._epoch > _ALL else {}), wanted
        read = [item for item in wanted.items() if known.get(item[0]) != item[1]]
        forget = [partition for partition in known if partition not in wanted]
        request = SessionRequest(self._id, self._epoch, read, forget)
        if self._lasting:
            self._epoch, self._next = _ALL, self._epoch % _LAST + 1  # the former, unless this one is answered
        return request

    def answered(self, session: int) -> None:
        """Note that the request was answered, under this session; 0: the broker gives none."""
        self._id = session
        if session and self._lasting:
            self._epoch = self._next
