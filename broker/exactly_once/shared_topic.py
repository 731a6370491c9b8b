"""Shares the partitions of a topic with the group's other members, and processes each assigned partition in a task.

    assigned -> fence the last owner -> read the committed offset -> work(PartitionStream) -> revoked: cancelled at once

Rules.
* Work always continues from the committed offset: no record is missing, and `PartitionWriter` ensures that none is
  written twice. So work is cancelled without cleanup when its partition is revoked, and begins again after an error of
  Kafka that may pass.
* Rebalancing is eager: when a member joins or leaves, all stop for a moment, and repeat the computations in progress.
* Only committed records are read, also of transactions that others wrote.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
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

from broker.client import STOP_S, close_client, new_client, new_consumer, start_client
from broker.delivery.coordinator import Coordinator
from broker.exactly_once.partition_stream import PartitionStream
from broker.exactly_once.partition_writer import PartitionWriter
from broker.features import broker_features
from broker.lag.offsets_api import UNKNOWN, FetchOffsets, read_committed
from broker.settings import KafkaSettings
from broker.topics import partitions_of
from schemas.errors import OperatorError

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

log = logging.getLogger(__name__)

Work: TypeAlias = Callable[[PartitionStream], Awaitable[None]]
"""Processing of a partition; returns when there is nothing more to do for it."""

_AGAIN_S: Final = 1.0
_PLACES: Final = "places"
_FOR_EVER_MS: Final = 2**31 - 1
_LASTING: Final = (
    *(ClusterAuthorizationFailedError, GroupAuthorizationFailedError),
    *(TopicAuthorizationFailedError, TransactionalIdAuthorizationFailed),
    *(InvalidTopicError, MessageSizeTooLargeError, RecordTooLargeError),
)
"""Errors that do not pass, however often it is tried."""


class SharedTopic(ConsumerRebalanceListener):
    """Topic whose partitions the processes of a group share; an async context manager.

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
        self._consumer = self._new_consumer()
        try:
            await start_client(self._settings, self._client.bootstrap())
            await start_client(self._settings, self._consumer.start())
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Return how many records before these offsets the group has not committed, approximately.

        Raises:
            KafkaError: Kafka does not answer.
        """
        committed, begins = await self.committed(), await self._begins()
        return sum(max(end - max(committed.get(p, 0), begins[p]), 0) for p, end in ends.items())

    async def committed(self) -> dict[TopicPartition, int]:
        """Return the offsets that the group has committed; partitions without one are absent.

        Raises:
            KafkaError: Kafka does not answer.
        """
        async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
            return await self._coordinator.fetch(self.partitions)

    async def ends(self) -> Mapping[TopicPartition, int]:
        """Return the offsets behind the last committed records of all partitions.

        Raises:
            KafkaError: Kafka does not answer.
        """
        return await self._consumer.end_offsets(list(self.partitions))

    # -- assignments of the group --------------------------------------------------------------------------------------

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the work on partitions."""
        if self._work is None:  # we are leaving
            return
        log.info(
            "group %s: %d of %d partitions are assigned to this process",
            self.group,
            len(assigned),
            len(self.partitions),
        )
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
        async with PartitionWriter(self._settings, self._client_id, self.group, partition) as writer:
            begin = await self._place(partition)
            await self._work(PartitionStream(self._consumer, writer, partition, begin))

    async def _begins(self) -> Mapping[TopicPartition, int]:
        return await self._consumer.beginning_offsets(list(self.partitions))

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

    def _new_consumer(self) -> AIOKafkaConsumer:
        return new_consumer(
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
