"""Partitions that successive fetch requests read from one broker, and the request in progress."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from aiokafka import TopicPartition

from broker.fetch.fetch_buffer import FetchBuffer
from broker.fetch.fetch_request import FetchSession, SessionRequest
from broker.fetch.fetched_partition import FetchedPartition

if TYPE_CHECKING:
    import asyncio

AskedPartition: TypeAlias = tuple[FetchBuffer, FetchedPartition]
"""Partition that is read, with its buffer."""


class FetchInProgress:
    """Fetch that was sent, or whose pause after an error is not over."""

    def __init__(self, *, brief: bool) -> None:
        self.task: asyncio.Task[None] | None = None
        self.answered = False
        """True if the broker has answered, and only a pause is left."""
        self._brief = brief

    def break_off(self) -> None:
        """Cancel the fetch, unless its wait is brief or over."""
        if not (self.answered or self._brief or self.task is None):
            self.task.cancel()


class BrokerReads:
    """Partitions that one fetch after the other reads from a broker. A request costs as much as what changed."""

    def __init__(self, node: int, connection: str, *, lasting: bool) -> None:
        self.node: Final = node
        self.connection: Final = connection
        """Name of the connection for its requests."""
        self.session: Final = FetchSession(lasting=lasting)
        self.incoming: Final = dict[FetchedPartition, FetchBuffer]()
        """Partitions of other reads of the broker, to be taken over with the next request."""
        self.fetch: FetchInProgress | None = None
        self._asked: dict[TopicPartition, AskedPartition] = {}
        """Partitions of the last request, and those for the next one."""
        self._dropped: dict[TopicPartition, None] = {}
        """Partitions of the last request that the next one leaves out."""

    @property
    def is_due(self) -> bool:
        """True if there is anything to read, and no fetch is in progress."""
        return self.fetch is None and bool(len(self.session) or self.incoming)

    @property
    def partitions(self) -> Iterable[AskedPartition]:
        """Partitions of the last request, and those for the next one."""
        return self._asked.values()

    def want(self, buffer: FetchBuffer, state: FetchedPartition, most_bytes: int) -> None:
        """Read a partition from its position on; a fetch in progress that does not is broken off."""
        self._asked[state.key] = buffer, state
        self._dropped.pop(state.key, None)
        if self.session.want(state.key, (state.position, state.epoch, most_bytes)) and self.fetch is not None:
            self.fetch.break_off()

    def drop(self, state: FetchedPartition) -> None:
        """Leave a partition out of the next request; the answer to the last one may still have records of it."""
        asked = self._asked.get(state.key)
        if asked is not None and asked[1] is state:
            self._dropped[state.key] = None
            self.session.forget(state.key)

    def request(self) -> SessionRequest:
        """Return the next request."""
        for partition in self._dropped:
            del self._asked[partition]
        self._dropped.clear()
        return self.session.request()

    def asked(self, partition: TopicPartition) -> AskedPartition | None:
        """Return a partition if it is read from where the last request read it; None if it has moved or was stopped."""
        asked, sent = self._asked.get(partition), self.session.sent(partition)
        if asked is None or sent is None:
            return None
        buffer, state = asked
        return asked if buffer.reads(state) and (state.position, state.epoch) == sent[:2] else None
