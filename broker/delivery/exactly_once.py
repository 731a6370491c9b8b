"""Exactly-once processing from topic to topic: records that follow and the offset read are written in one transaction.

    assigned -> fence the last owner -> read the committed offset -> work(PartitionStream) -> revoked: cancelled at once

Rules.
* All writers of a partition have the same transactional id, in all processes. Opening one fences the others: Kafka
  aborts their open transaction and refuses further records of theirs. So only the writer opened last writes, even if
  other processes still believe that they own the partition. The committed offset must be read after that.
* There is an id for each partition, not for each process. So fencing needs no generation of the group, which aiokafka
  does not send with the offsets of a transaction.
* Work always continues from the committed offset: no record is missing, and `PartitionWriter` ensures that none is
  written twice. So work is cancelled without cleanup when its partition is revoked, and begins again after an error of
  Kafka that may pass.
* Rebalancing is eager: when a member joins or leaves, all stop for a moment, and repeat the computations in progress.
* Only committed records are read, also of transactions that others wrote.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from broker.delivery.group import Coordinator
from broker.kafka.client import STOP_S, close_client, new_client, new_consumer, new_transactional_producer, start_client
from broker.kafka.cluster import broker_features
from broker.kafka.offsets import UNKNOWN, FetchOffsets, read_committed
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import partitions_of
from broker.kafka.types import Record
from schemas.errors import OperatorError
from schemas.headers import RawHeaders

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient


log = logging.getLogger(__name__)

_READ_MS: Final = 1000
_AGAIN_S: Final = 1.0
_PLACES: Final = "places"
_FOR_EVER_MS: Final = 2**31 - 1
_LASTING: Final = (
    *(ClusterAuthorizationFailedError, GroupAuthorizationFailedError),
    *(TopicAuthorizationFailedError, TransactionalIdAuthorizationFailed),
    *(InvalidTopicError, MessageSizeTooLargeError, RecordTooLargeError),
)
"""Errors that do not pass, however often it is tried."""


class OutgoingRecord(NamedTuple):
    """Record to be written."""

    topic: str
    partition: int | None
    """None: chosen by the key."""
    key: bytes | None
    value: bytes | None
    """None: a tombstone, which needs a key."""
    headers: RawHeaders


class PartitionWriter:
    """Writer for one partition of a group; an async context manager that fences all other writers on entry.

    Raises:
        KafkaError: on entry, Kafka refuses the producer.
        TimeoutError: on entry, Kafka does not answer.
    """

    def __init__(self, settings: KafkaSettings, client_id: str, group: str, partition: TopicPartition) -> None:
        self._settings = settings
        self._group = group
        self.partition = partition
        transactional_id = f"{group}.{partition.topic}.{partition.partition}"
        self._producer: AIOKafkaProducer = new_transactional_producer(settings, client_id, transactional_id)

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await self._producer.start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stop()

    async def write(self, records: Sequence[OutgoingRecord], next_offset: int) -> None:
        """Write records in their order, and the group's next offset, in one transaction.

        Raises:
            KafkaError: nothing was written, or the outcome is unknown; the group's committed offset tells.
        """
        async with self._transaction():
            sent = [
                await self._producer.send(
                    record.topic, record.value, record.key, record.partition, headers=record.headers
                )
                for record in records
            ]
            await asyncio.gather(*sent)
            await self._producer.send_offsets_to_transaction({self.partition: next_offset}, self._group)

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[None]:
        """Run a transaction, and abort it if its block fails.

        The error of the block is raised, a cancellation too, even if the transaction cannot be aborted.
        """
        transaction = self._producer.transaction()
        await transaction.__aenter__()
        try:
            yield
        except BaseException as error:
            try:
                async with asyncio.timeout(STOP_S):
                    await transaction.__aexit__(type(error), error, error.__traceback__)
            except (KafkaError, TimeoutError) as failure:  # the next writer of the partition aborts it
                log.debug("a transaction of %s-%d was not aborted: %r", *self.partition, failure)
            raise
        await transaction.__aexit__(None, None, None)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._producer.stop()
        except TimeoutError:
            log.warning("Kafka did not answer while closing the writer of %s-%d", *self.partition)
        except Exception as error:  # noqa: BLE001 - the write that failed has raised the cause
            log.debug("the writer of %s-%d: %r", *self.partition, error)


class PartitionStream(PartitionWriter):
    """Assigned partition: its records, read from `begin` on, and the writer of the records that follow."""

    def __init__(
        self, settings: KafkaSettings, client_id: str, group: str, partition: TopicPartition,
        consumer: AIOKafkaConsumer,
    ) -> None:  # fmt: skip
        super().__init__(settings, client_id, group, partition)
        self.begin = 0
        """Offset at which reading began."""
        self._consumer = consumer

    async def read(self, most: int) -> tuple[list[Record], int]:
        """Return the next records, none if there were none for a while, and the offset behind them.

        The offset may lie further behind the last record, since transaction markers have offsets, too.
        """
        found = await self._consumer.getmany(self.partition, timeout_ms=_READ_MS, max_records=most)
        records = [
            Record(r.topic, r.partition, r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.headers)
            for r in found.get(self.partition, [])
        ]
        return records, await self._consumer.position(self.partition)


Work: TypeAlias = Callable[[PartitionStream], Awaitable[None]]
"""Processing of a partition; returns when there is nothing more to do for it."""


class SharedTopic(ConsumerRebalanceListener):
    """Topic whose partitions the processes of a group share; an async context manager.

    Methods that read offsets raise KafkaError if Kafka does not answer.

    Raises:
        OperatorError: on entry, Kafka cannot be reached, has no such topic, or has no transactions.
    """

    def __init__(self, settings: KafkaSettings, client_id: str, topic: str, group: str) -> None:
        self.topic = topic
        self.group = group
        self.partitions: frozenset[TopicPartition] = frozenset()
        """All partitions of the topic, including those of other members."""
        self._settings = settings
        self._client_id = client_id
        self._client: AIOKafkaClient
        self._coordinator: Coordinator
        self._consumer: AIOKafkaConsumer
        self._work: Work | None = None
        self._tasks = asyncio.TaskGroup()
        self._at_work: dict[TopicPartition, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        if not (await broker_features(self._settings)).transactions:
            raise OperatorError(
                f"the broker at {self._settings.bootstrap} is the embedded one, which supports neither groups nor "
                "transactions, so records could be lost or duplicated; use Apache Kafka: infaas up --kafka apache"
            )
        self.partitions = await partitions_of(self._settings, [self.topic])
        if not self.partitions:
            raise OperatorError(f"there is no topic {self.topic} at {self._settings.bootstrap}")
        self._client = new_client(self._settings, f"{self._client_id}-lag")
        self._coordinator = Coordinator(self._client, self.group)
        self._consumer = new_consumer(
            self._settings,
            self._client_id,
            group_id=self.group,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=self._settings.session_timeout_ms,
            heartbeat_interval_ms=self._settings.session_timeout_ms // 3,
            # A member that reads nothing for long may wait for answers, or have nothing left to do; it stays a member.
            max_poll_interval_ms=_FOR_EVER_MS,
        )
        try:
            await start_client(self._settings, self._client.bootstrap())
            await start_client(self._settings, self._consumer.start())
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    @property
    def ours(self) -> int:
        """Number of partitions that are assigned to this process."""
        return len(self._at_work)

    async def run(self, work: Work) -> None:
        """Take part in the group until cancelled.

        Raises:
            OperatorError: Kafka refuses, and will continue to.
            Exception: an error raised by `work`.
        """
        self._work = work
        try:
            async with self._tasks:
                self._consumer.subscribe([self.topic], listener=self)
                await asyncio.Event().wait()
        finally:
            self._work = None

    async def left(self, ends: Mapping[TopicPartition, int]) -> int:
        """Return how many records before these offsets the group has not committed, approximately."""
        committed, begins = await self.committed(), await self._consumer.beginning_offsets([*self.partitions])
        return sum(max(end - max(committed.get(p, 0), begins[p]), 0) for p, end in ends.items())

    async def committed(self) -> dict[TopicPartition, int]:
        """Return the offsets that the group has committed; partitions without one are absent."""
        async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
            return await self._coordinator.fetch(self.partitions)

    async def ends(self) -> Mapping[TopicPartition, int]:
        """Return the offsets behind the last committed records of all partitions."""
        return await self._consumer.end_offsets(list(self.partitions))

    # -- assignments of the group --------------------------------------------------------------------------------------

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the work on partitions."""
        if self._work is None:  # we are leaving
            return
        counts = len(assigned), len(self.partitions)
        log.info("group %s: %d of %d partitions are assigned to this process", self.group, *counts)
        for partition in assigned:
            self._at_work[partition] = self._tasks.create_task(self._keep_at_work(partition))

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Stop the work on all partitions, before the group assigns them again."""
        tasks = [*self._at_work.values()]
        self._at_work.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _keep_at_work(self, partition: TopicPartition) -> None:
        while True:
            try:
                return await self._work_on(partition)
            except _LASTING as error:
                raise OperatorError(f"Kafka refuses the results of {_name(partition)}: {error}") from error
            except ProducerFenced:
                log.info("%s is moving to another process", _name(partition))
            except (KafkaError, TimeoutError) as error:
                log.warning("%s: resuming from the committed offset after %r", _name(partition), error)
            await asyncio.sleep(_AGAIN_S)

    async def _work_on(self, partition: TopicPartition) -> None:
        assert self._work is not None
        async with PartitionStream(self._settings, self._client_id, self.group, partition, self._consumer) as stream:
            stream.begin = await self._place(partition)
            await self._work(stream)

    async def _place(self, partition: TopicPartition) -> int:
        """Read the partition from the committed offset on; return that offset."""
        first = (await self._consumer.beginning_offsets([partition]))[partition]
        committed = await self._settled(partition)
        if 0 <= committed < first:
            log.warning("%s: Kafka deleted %d records before they were read", _name(partition), first - committed)
        begin = max(first, committed)
        self._consumer.seek(partition, begin)
        return begin

    async def _settled(self, partition: TopicPartition) -> int:
        """Return the committed offset, or -1 for none, once no open transaction can change it.

        The last owner is fenced, but a broker may note the outcome of its last transaction a moment later.

        Raises:
            KafkaError: a transaction may still change the offset.
        """
        request = FetchOffsets.of({self.group: {partition.topic: [partition.partition]}}, settled=True)
        async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
            answer = await self._coordinator.send(request, _PLACES)
        [(_, error, topics)] = read_committed(answer)
        self._coordinator.check(error)
        [(_, [(_, offset)])] = topics
        if offset == UNKNOWN:
            raise KafkaError(f"a transaction on the committed offset of group {self.group} is open")
        return offset

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._consumer.stop()
        except TimeoutError:
            log.warning("Kafka did not answer while leaving group %s", self.group)
        finally:
            await close_client(self._client)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}-{partition.partition}"
