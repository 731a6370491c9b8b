"""Reader of topics from their present end: status, demand and replies, where only new records matter.

It has no group and commits nothing. Records from before the context was entered are not read, except those asked for by
`since_ms`. Records written after that are always read, across lost connections too.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError

from broker.fetch.fetch_request import FetchPace
from broker.fetch.read_connection import ReadConnection
from broker.kafka.client import start_client
from broker.kafka.offsets import END, START, find_offsets
from broker.kafka.settings import KafkaSettings
from broker.kafka.types import Record

if TYPE_CHECKING:
    from broker.fetch.fetch_buffer import FetchBuffer


log = logging.getLogger(__name__)

_BACKOFF_S: Final = 0.5
_AGAIN_S: Final = 0.1


class Tail:
    """Reader of the records written to topics from now on; an async context manager, and an async iterator of records.

    The topics must exist. With `since_ms` it begins with the records of that timestamp (ms since the epoch) or later.
    Partitions that are added later are read from their start.
    """

    def __init__(
        self, settings: KafkaSettings, client_id: str, topics: Collection[str], pace: FetchPace | None = None,
        *, since_ms: float | None = None,
    ) -> None:  # fmt: skip
        """Use `pace` for the wait of fetches; None: that of the settings."""
        self._settings = settings
        self._connection = ReadConnection(settings, client_id, pace)
        self._buffer: FetchBuffer
        self._open = AsyncExitStack()
        self._topics = sorted(topics)
        self._since_ms = since_ms
        self._began: dict[TopicPartition, int] = {}
        """End offset of each partition when reading began."""
        self._ready: list[Record] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection)
            self._buffer = self._connection.fetcher.open_buffer()
            await start_client(self._settings, self._begin())
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()

    async def _begin(self) -> None:
        """Find the ends of the topics: they must be known before the context is entered, not with the first fetch."""
        client = self._connection.client
        await client.set_topics(self._topics)  # one request for all of them
        for topic in self._topics:
            await client._wait_on_metadata(topic)  # pyright: ignore[reportPrivateUsage] - there is no other way
        partitions = self._partitions(client.cluster)
        self._began = await self._find(dict.fromkeys(partitions, END))
        starts = self._began
        if self._since_ms is not None:
            starts = starts | await self._find(dict.fromkeys(partitions, round(self._since_ms)))
        for partition, start in starts.items():
            self._buffer.begin(partition, start)
        client.cluster.add_listener(self._on_metadata)

    async def _find(self, wanted: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        while True:  # a new topic has no leader for a moment
            try:
                return await find_offsets(self._connection.client, wanted)
            except KafkaError as error:
                if not error.retriable:
                    raise
                await self._connection.client.force_metadata_update()
                await asyncio.sleep(_AGAIN_S)

    def _partitions(self, cluster: ClusterMetadata) -> list[TopicPartition]:
        return [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in cluster.partitions_for_topic(topic) or ()
        ]

    def _on_metadata(self, cluster: ClusterMetadata) -> None:
        for partition in self._partitions(cluster):
            if partition not in self._began:
                self._began[partition] = 0
                self._buffer.begin(partition, START)

    def leader(self, record: Record) -> int | None:
        """Return the id of the broker that leads the partition of a record."""
        return self._connection.client.cluster.leader_for_partition(TopicPartition(record.topic, record.partition))

    def is_replayed(self, record: Record) -> bool:
        """Return true if the record was written before this reader began."""
        return record.offset < self._began.get(TopicPartition(record.topic, record.partition), 0)

    async def poll(self) -> list[Record]:
        """Wait for the next records, and return at least one; lost connections are restored."""
        while not (records := await self._poll()):  # there were only transaction markers
            pass
        return records

    async def _poll(self) -> list[Record]:
        while True:
            try:
                found = await self._buffer.poll()
            except KafkaError as error:
                log.warning("reading %s failed, will retry: %r", ", ".join(self._topics), error)
                await asyncio.sleep(_BACKOFF_S)
                continue
            return [record for taken in found.values() for record in taken.records]

    async def past(self) -> AsyncGenerator[Record]:
        """Yield the records written between `since_ms` and the start of this reader, then end; drop later records.

        Raises:
            TimeoutError: Kafka does not return the records in time.
        """
        async for record in self.up_to(self._began):
            if self.is_replayed(record):
                yield record

    async def up_to(self, ends: Mapping[TopicPartition, int]) -> AsyncGenerator[Record]:
        """Yield the next records until all those before these offsets were yielded; later ones may be among them.

        Raises:
            TimeoutError: Kafka does not return the records in time.
        """
        while any(self._buffer.taken(partition) < end for partition, end in ends.items()):
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                records = await self._poll()
            for record in records:
                yield record

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        if not self._ready:
            self._ready = await self.poll()
            self._ready.reverse()
        return self._ready.pop()
