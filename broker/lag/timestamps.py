"""Times of single records, read from the log for records that are older than the history of ends.

These are records that waited before the first reading. A lookup costs a fetch, so its result is kept for as long as it
is asked for.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from broker.client import connect_client
from broker.fetch.fetch_buffer import FetchBuffer
from broker.fetch.fetcher import Fetcher
from broker.fetch.losses import Losses
from broker.fetch_pace import FetchPace
from broker.settings import KafkaSettings
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

LOOKUP_S: Final = 3.0
_FETCH_BYTES: Final = 16 * 1024
"""Small: only the first record of each partition is needed."""


class TimestampLookup:
    """Lookup of the times at which records were written; its client connects at the first lookup."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._client: AIOKafkaClient | None = None
        self._known: dict[tuple[TopicPartition, int], float] = {}

    async def aclose(self) -> None:
        """Disconnect, if connected."""
        if self._client is not None:
            await self._client.close()

    async def written_s(self, wanted: list[tuple[TopicPartition, int]]) -> dict[tuple[TopicPartition, int], float]:
        """Return the times at which the records at these offsets were written, in seconds since the epoch.

        Records that cannot be read in time are absent.
        """
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
                # Two groups may need two offsets of one partition, which are read in two rounds.
                while rest := {partition: offsets.pop() for partition, offsets in missing.items() if offsets}:
                    await self._read(rest)
        except (KafkaError, OperatorError, TimeoutError) as error:
            log.warning("the age of the oldest record is unknown for some of %d partitions: %r", len(missing), error)
        return self._known

    async def _read(self, offsets: Mapping[TopicPartition, int]) -> None:
        # Losses are not reported here, but by the consumers of the partitions.
        fetcher = Fetcher(
            await self._connected(),
            FetchPace(self._settings),
            losses=Losses(silent=True),
            partition_bytes=_FETCH_BYTES,
            lasting=False,
        )
        buffer = fetcher.open_buffer()
        for partition, offset in offsets.items():
            buffer.begin(partition, offset)
        refused: KafkaError | None = None
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(fetcher.run(), name="look up when records were written")
            try:
                await self._take(buffer, dict(offsets))
            except KafkaError as error:  # an error that leaves the group would be wrapped
                refused = error
            reading.cancel()
        if refused is not None:
            raise refused

    async def _take(self, buffer: FetchBuffer, waiting: dict[TopicPartition, int]) -> None:
        while waiting:
            for partition, (records, _) in (await buffer.poll()).items():
                if not records and buffer.taken(partition) < (buffer.end(partition) or 0):
                    continue
                if (offset := waiting.pop(partition, None)) is not None:
                    if records:  # else only transaction markers are left
                        self._known[partition, offset] = records[0].timestamp / 1000
                    buffer.stop([partition])

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            self._client = await connect_client(self._settings, self._client_id)
        return self._client
