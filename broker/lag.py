"""Consumer lag: how far groups are behind, in records and in seconds.

Unknown is None, which is not zero: a reader that took an unanswered question for an empty queue would scale to nothing.
A group that never committed is behind from the earliest record on. The seconds are the age of the oldest record not
committed; its timestamp is read from the log, which costs one small fetch, and only where the lag is not zero.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from broker.client import new_consumer, open_admin, reach, stop_consumer
from broker.settings import KafkaSettings

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient

log = logging.getLogger(__name__)

READ_S: Final = 10.0
AGES_S: Final = 3.0


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """One partition as a group sees it."""

    group: str
    topic: str
    partition: int
    end: int
    """Offset of the next record to be written."""
    committed: int | None
    """None: never, or unknown; then `lag` says which."""
    lag: int | None
    """Records."""
    lag_s: float | None
    """Age of the oldest record not committed; 0 when there is none."""


class LagReader:
    """Async context manager; one task calls `read`."""

    def __init__(self, settings: KafkaSettings, client_id: str = "infaas-lag") -> None:
        self._settings = settings
        self._client_id = client_id
        self._admin: AIOKafkaAdminClient
        self._offsets: AIOKafkaConsumer
        self._ages: _Ages
        self._open = AsyncExitStack()
        self._coordinators: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._admin = await stack.enter_async_context(open_admin(self._settings, self._client_id))
            self._offsets = await stack.enter_async_context(_started(self._settings, self._client_id))
            # Small: the first record of each partition is all that is wanted.
            reader = _started(self._settings, self._client_id, max_partition_fetch_bytes=16 * 1024)
            self._ages = _Ages(await stack.enter_async_context(reader))
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def read(self, wanted: Mapping[str, Collection[str]]) -> list[PartitionLag]:
        """The lag of each group on each partition of its topics; a topic that does not exist has no rows.

        Raises:
            KafkaError: Kafka did not answer within 10 s; nothing is known.
        """
        try:
            async with asyncio.timeout(READ_S):
                return await self._read(wanted)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"the lag could not be read within {READ_S:g} s") from error

    async def _read(self, wanted: Mapping[str, Collection[str]]) -> list[PartitionLag]:
        partitions = await self._partitions({topic for topics in wanted.values() for topic in topics})
        flat = [partition for found in partitions.values() for partition in found]
        if not flat:
            return []
        ends = await self._offsets.end_offsets(flat)
        starts = await self._offsets.beginning_offsets(flat)
        groups = {group: [p for topic in topics for p in partitions.get(topic, ())] for group, topics in wanted.items()}
        committed = await self._committed(groups)
        rows = [
            _row(group, partition, ends[partition], starts[partition], committed.get(group))
            for group, members in groups.items()
            for partition in members
        ]
        return await self._ages.fill(rows)

    async def _partitions(self, topics: Collection[str]) -> dict[str, list[TopicPartition]]:
        described = await self._admin.describe_topics(sorted(topics))
        return {
            topic["topic"]: [TopicPartition(topic["topic"], part["partition"]) for part in topic["partitions"]]
            for topic in described
            if not topic["error_code"] and all(part["leader"] >= 0 for part in topic["partitions"])
        }

    async def _committed(self, groups: Mapping[str, list[TopicPartition]]) -> dict[str, dict[TopicPartition, int]]:
        """By group; a group that could not be asked is absent. -1: never committed."""
        found: dict[str, dict[TopicPartition, int]] = {}

        async def ask(group: str, partitions: list[TopicPartition]) -> None:
            try:
                if group not in self._coordinators:
                    self._coordinators[group] = await self._admin.find_coordinator(group)
                # The partitions are named: asked for all of a group, the embedded broker's answer cannot be read.
                offsets = await self._admin.list_consumer_group_offsets(group, self._coordinators[group], partitions)
                found[group] = {partition: offset.offset for partition, offset in offsets.items()}
            # AttributeError: aiokafka 0.14 looks for a partition's error code in the wrong place.
            except (KafkaError, AttributeError) as error:
                self._coordinators.pop(group, None)
                log.warning("what group %s has committed is unknown: %r", group, error)

        async with asyncio.TaskGroup() as tasks:
            for group, partitions in groups.items():
                if partitions:
                    tasks.create_task(ask(group, partitions))
        return found


class _Ages:
    """Reads the timestamps of the oldest records not committed; those already known are not read again."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._known: dict[TopicPartition, dict[int, int]] = {}

    async def fill(self, rows: list[PartitionLag]) -> list[PartitionLag]:
        """The rows with their `lag_s`."""
        oldest: dict[TopicPartition, set[int]] = {}
        for row in rows:
            if row.lag:
                oldest.setdefault(TopicPartition(row.topic, row.partition), set()).add(row.end - row.lag)
        self._known = {
            partition: {offset: at for offset, at in self._known.get(partition, {}).items() if offset in offsets}
            for partition, offsets in oldest.items()
        }
        # Two groups may stand at two offsets of one partition: read in as many rounds.
        missing = {p: offsets - self._known[p].keys() for p, offsets in oldest.items()}
        while rest := {p: offsets.pop() for p, offsets in missing.items() if offsets}:
            await self._read(rest)
        now_ms = time.time() * 1000
        return [self._with_age(row, now_ms) for row in rows]

    def _with_age(self, row: PartitionLag, now_ms: float) -> PartitionLag:
        if row.lag is None:
            return row
        if row.lag == 0:
            return msgspec.structs.replace(row, lag_s=0.0)
        at = self._known[TopicPartition(row.topic, row.partition)].get(row.end - row.lag)
        return row if at is None else msgspec.structs.replace(row, lag_s=max(0.0, (now_ms - at) / 1000))

    async def _read(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._consumer.assign(list(offsets))
        for partition, offset in offsets.items():
            self._consumer.seek(partition, offset)
        waiting = set(offsets)
        try:
            async with asyncio.timeout(AGES_S):
                while waiting:
                    for partition, records in (await self._consumer.getmany(timeout_ms=1000)).items():
                        if partition in waiting:
                            self._known[partition][offsets[partition]] = records[0].timestamp
                            waiting.discard(partition)
                            self._consumer.pause(partition)
        except (KafkaError, TimeoutError) as error:
            log.warning("the age of the oldest record is unknown for %d partitions: %r", len(waiting), error)
        finally:
            self._consumer.pause(*waiting)


@asynccontextmanager
async def _started(settings: KafkaSettings, client_id: str, **options: Any) -> AsyncGenerator[AIOKafkaConsumer]:
    consumer = new_consumer(settings, client_id, group_id=None, auto_offset_reset="earliest", **options)
    try:
        await reach(settings, consumer.start())
        yield consumer
    finally:
        await stop_consumer(consumer)


def _row(
    group: str, partition: TopicPartition, end: int, start: int, committed: Mapping[TopicPartition, int] | None
) -> PartitionLag:
    offset = None if committed is None else committed.get(partition)
    # What was deleted before it was committed can no longer be consumed: it is no lag.
    lag = None if offset is None else max(0, end - max(offset, start))
    return PartitionLag(
        group=group,
        topic=partition.topic,
        partition=partition.partition,
        end=end,
        committed=None if offset is None or offset < 0 else offset,
        lag=lag,
        lag_s=None,
    )
