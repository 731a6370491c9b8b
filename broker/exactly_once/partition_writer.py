"""Writes what follows from the records of one partition, and its offset, in transactions.

Rules.
* All writers of a partition have one transactional id, in whatever process they are. Opening one fences the others:
  Kafka ends the transaction that they have open and takes nothing more of them. So only the last one that was opened
  writes, whoever else still believes that the partition is its own; what was committed must be asked for after that.
* An id for each partition rather than for each process: then nothing has to be known of the group's generations, which
  aiokafka does not send along with the offsets of a transaction.
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
    """A record to be written."""

    topic: str
    partition: int | None
    """None: as the key says."""
    key: bytes | None
    value: bytes
    headers: RawHeaders


class PartitionWriter:
    """Writer for one partition of a group: an async context manager that fences all others when it is entered.

    Raises:
        KafkaError: on entry, it cannot be; and `TimeoutError`.
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
        """Write records in their order, and that the group goes on at `next_offset`: all of it or nothing.

        Raises:
            KafkaError: nothing of it was written, or nobody knows whether; the group's offset tells.
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
        """A transaction. What it failed with is raised, a cancellation too, whatever becomes of aborting it."""
        transaction = self._producer.transaction()
        await transaction.__aenter__()
        try:
            yield
        except BaseException as error:
            try:
                async with asyncio.timeout(STOP_S):
                    await transaction.__aexit__(type(error), error, error.__traceback__)
            except (KafkaError, TimeoutError) as failure:  # whoever opens the partition next has it aborted
                log.debug("a transaction of %s-%d was not aborted: %r", *self._partition, failure)
            raise
        await transaction.__aexit__(None, None, None)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await self._producer.stop()
        except TimeoutError:
            log.warning("Kafka did not answer while the writer of %s-%d was closed", *self._partition)
        except Exception as error:  # noqa: BLE001 - what it died of was raised where it wrote
            log.debug("the writer of %s-%d: %r", *self._partition, error)
