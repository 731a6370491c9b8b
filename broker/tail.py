"""Reads topics from their present end: status, demand and replies, where only what comes next matters.

No group and no commits. What was written before the context was entered is never seen, what is written after always is,
across lost connections too.
"""

import asyncio
import logging
from collections.abc import Collection
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from broker.client import new_consumer, start_client, stop_consumer
from broker.fetch_pace import FetchPace
from broker.kafka_types import Record
from broker.settings import KafkaSettings

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

log = logging.getLogger(__name__)

_BACKOFF_S = 0.5


class Tail:
    """Reader of what is written to topics from now on; an async context manager, and an async iterator of records.

    The topics must exist. With `since_ms` it begins with what was written since then, by the time that records carry.
    """

    def __init__(
        self, settings: KafkaSettings, client_id: str, topics: Collection[str], pace: FetchPace | None = None,
        *, since_ms: float | None = None,
    ) -> None:  # fmt: skip
        """`pace` is how eagerly it reads, if not as usual."""
        self._settings = settings
        self._client_id = client_id
        self._consumer: AIOKafkaConsumer
        self._topics = sorted(topics)
        self._pace = pace or FetchPace(settings)
        self._since_ms = since_ms
        self._began: dict[TopicPartition, int] = {}
        """By partition, where it ended at the start."""
        self._ready: list[Record] = []

    async def __aenter__(self) -> Self:
        self._consumer = new_consumer(self._settings, self._client_id, group_id=None, auto_offset_reset="latest")
        self._consumer.subscribe(self._topics)
        try:
            await start_client(self._settings, self._start())
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_consumer(self._consumer)

    async def _start(self) -> None:
        await self._consumer.start()
        # Where the end is must be known before the context is entered, not when the first fetch happens to ask.
        await self._consumer.seek_to_end()
        if self._since_ms is not None:
            await self._seek_back(round(self._since_ms))

    async def _seek_back(self, since_ms: int) -> None:
        consumer = self._consumer
        self._began = {partition: await consumer.position(partition) for partition in consumer.assignment()}
        found = await consumer.offsets_for_times(dict.fromkeys(self._began, since_ms))
        for partition, first in found.items():
            if first is not None and first.timestamp >= 0:  # else nothing was written since
                consumer.seek(partition, first.offset)

    def is_replayed(self, record: Record) -> bool:
        """Whether the record was written before this began to read."""
        return record.offset < self._began.get(TopicPartition(record.topic, record.partition), 0)

    async def poll(self) -> list[Record]:
        """Return the next records, at least one; waits for them, and goes on by itself after a lost connection."""
        while True:
            try:
                found = await self._pace.poll(self._consumer)
            except KafkaError as error:
                log.warning("reading %s failed, trying again: %r", ", ".join(self._topics), error)
                await asyncio.sleep(_BACKOFF_S)
                continue
            if found:
                return [record for records in found.values() for record in records]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        if not self._ready:
            self._ready = await self.poll()
            self._ready.reverse()
        return self._ready.pop()
