"""Times at which records were written: from the ends of partitions at past readings, or from the log.

A record was written after the last reading at which the end had not passed it, and before the next one. Between the
two, records are assumed to be written at an even rate. So the time of a record is known to a fraction of the interval
between two readings, at no cost for the broker. Only records that waited before the first reading are looked up in the
log. A lookup costs a fetch, so its result is kept for as long as it is asked for.

The history is bounded: when it is full, every other reading of its older half is dropped. The readings of the last
minute stay complete, and older ones get sparse with age, so the precision is always about proportional to the age.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import numpy as np
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from broker.fetch.fetch_buffer import FetchBuffer
from broker.fetch.fetch_request import FetchPace
from broker.fetch.fetched_partition import Losses
from broker.fetch.fetcher import Fetcher
from broker.kafka.client import connect_client
from broker.kafka.settings import KafkaSettings
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

LOOKUP_S: Final = 3.0
_FETCH_BYTES: Final = 16 * 1024
"""Small: only the first record of each partition is needed."""
READINGS: Final = 128
UNSEEN: Final = -1
"""End that is not known, for example of a partition that did not exist yet."""


class OffsetHistory:
    """Ends of a fixed set of partitions at past readings, one column per partition. Times are seconds of any clock."""

    def __init__(self, columns: int) -> None:
        self._at_s = np.zeros(READINGS)
        self._ends = np.full((READINGS, columns), UNSEEN, np.int64)
        self._count = 0

    def add(self, at_s: float, ends: NDArray[np.int64]) -> None:
        """Add a reading of all columns; an end that is UNSEEN is assumed to be unchanged."""
        if self._count == READINGS:
            self._thin()
        now, past = self._count, self._ends[: self._count]
        if now:
            before = past[-1]
            # The end went back, so the partition was made again.
            past[:, (ends < before) & (ends != UNSEEN)] = UNSEEN
            ends = np.where(ends == UNSEEN, before, ends)
        self._at_s[now] = at_s
        self._ends[now] = ends
        self._count += 1

    def written_s(self, columns: NDArray[np.intp], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times at which records at these offsets, which are before the last ends, were written.

        nan: before the first reading.
        """
        count = self._count
        found = np.full(len(columns), np.nan)
        if count < 2 or not len(columns):
            return found
        ends = self._ends[:count, columns]
        last = (ends <= offsets).sum(axis=0) - 1
        known = np.flatnonzero((last >= 0) & (last < count - 1))
        low, at = ends[last[known], known], last[known]
        reaches = low != UNSEEN
        known, low, at = known[reaches], low[reaches], at[reaches]
        share = (offsets[known] - low + 0.5) / (ends[at + 1, known] - low)
        found[known] = self._at_s[at] + share * (self._at_s[at + 1] - self._at_s[at])
        return found

    def remapped(self, columns: int, new: NDArray[np.intp], old: NDArray[np.intp]) -> "OffsetHistory":
        """Copy the history for another set of partitions: its columns `new` are the columns `old` of this one."""
        history = OffsetHistory(columns)
        history._count = self._count
        history._at_s[:] = self._at_s
        history._ends[:, new] = self._ends[:, old]
        return history

    def _thin(self) -> None:
        half = READINGS // 2
        kept = np.r_[0:half:2, half:READINGS]
        self._count = len(kept)
        self._at_s[: self._count] = self._at_s[kept]
        self._ends[: self._count] = self._ends[kept]


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
