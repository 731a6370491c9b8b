"""Reads from the log when single records were written: only those that the history of ends does not reach back to.

That is what waited already when somebody began to look. It costs a fetch, so what was read once is remembered for as
long as it is asked for.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from broker.client import new_consumer, start_client, stop_consumer
from broker.settings import KafkaSettings
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

LOOKUP_S: Final = 3.0
_FETCH_BYTES: Final = 16 * 1024
"""Small: the first record of each partition is all that is wanted."""


class TimestampLookup:
    """Lookup of the time at which records were written; its consumer connects when it is first needed."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._open = AsyncExitStack()
        self._consumer: AIOKafkaConsumer | None = None
        self._known: dict[tuple[TopicPartition, int], float] = {}

    async def aclose(self) -> None:
        """Disconnect the consumer, if it ever connected."""
        await self._open.aclose()

    async def written_s(self, wanted: list[tuple[TopicPartition, int]]) -> dict[tuple[TopicPartition, int], float]:
        """When the records at these offsets were written, epoch seconds; those not read in time are absent."""
        self._known = {
            group_partition: self._known[group_partition]
            for group_partition in wanted
            if group_partition in self._known
        }
        missing: dict[TopicPartition, set[int]] = {}
        for partition, offset in wanted:
            if (partition, offset) not in self._known:
                missing.setdefault(partition, set()).add(offset)
        try:
            async with asyncio.timeout(LOOKUP_S):
                # Two groups may stand at two offsets of one partition: read in as many rounds.
                while rest := {partition: offsets.pop() for partition, offsets in missing.items() if offsets}:
                    await self._read(rest)
        except (KafkaError, OperatorError, TimeoutError) as error:
            log.warning("the age of the oldest record is unknown for some of %d partitions: %r", len(missing), error)
        return self._known

    async def _read(self, offsets: Mapping[TopicPartition, int]) -> None:
        if self._consumer is None:
            self._consumer = await self._open.enter_async_context(_started(self._settings, self._client_id))
        consumer = self._consumer
        consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            consumer.seek(partition, offset)
        waiting = set(offsets)
        try:
            while waiting:
                for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                    if partition in waiting:
                        self._known[partition, offsets[partition]] = records[0].timestamp / 1000
                        waiting.discard(partition)
                        consumer.pause(partition)
        finally:
            consumer.pause(*waiting)


@asynccontextmanager
async def _started(settings: KafkaSettings, client_id: str) -> AsyncGenerator[AIOKafkaConsumer]:
    consumer = new_consumer(
        settings, client_id, group_id=None, auto_offset_reset="earliest", max_partition_fetch_bytes=_FETCH_BYTES
    )
    try:
        await start_client(settings, consumer.start())
        yield consumer
    finally:
        await stop_consumer(consumer)
