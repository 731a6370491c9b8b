"""Writer of the records that follow from one partition, and of its offset, in transactions.

Rules.
* All writers of a partition have the same transactional id, in all processes. Opening one fences the others: Kafka
  aborts their open transaction and refuses further records of theirs. So only the writer opened last writes, even if
  other processes still believe that they own the partition. The committed offset must be read after that.
* There is an id for each partition, not for each process. So fencing needs no generation of the group, which aiokafka
  does not send with the offsets of a transaction.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import NamedTuple, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from broker.client import STOP_S, new_transactional_producer
from broker.settings import KafkaSettings
from schemas.headers import RawHeaders

log = logging.getLogger(__name__)


class OutgoingRecord(NamedTuple):
    """Record to be written."""

    topic: str
    partition: int | None
    """None: chosen by the key."""
    key: bytes | None
    value: bytes
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
        self._partition = partition
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            await self._producer.send_offsets_to_transaction({self._partition: next_offset}, self._group)

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
                log.debug("a transaction of %s-%d was not aborted: %r", *self._partition, failure)
            raise
        await transaction.__aexit__(None, None, None)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._producer.stop()
        except TimeoutError:
            log.warning("Kafka did not answer while closing the writer of %s-%d", *self._partition)
        except Exception as error:  # noqa: BLE001 - the write that failed has raised the cause
            log.debug("the writer of %s-%d: %r", *self._partition, error)
