"""Assigned partition: its records from the group's committed offset on, and the writer of the records that follow."""

from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.exactly_once.partition_writer import OutgoingRecord, PartitionWriter
from broker.kafka_types import Record

_READ_MS = 1000


class PartitionStream:
    """Partition that this process reads from `begin` on, and for which it writes the records that follow."""

    def __init__(
        self, consumer: AIOKafkaConsumer, writer: PartitionWriter, partition: TopicPartition, begin: int
    ) -> None:
        self.partition = partition
        self.begin = begin
        self._consumer = consumer
        self._writer = writer

    async def read(self, most: int) -> tuple[list[Record], int]:
        """Return the next records, none if there were none for a while, and the offset behind them.

        The offset may lie further behind the last record, since transaction markers have offsets, too.
        """
        found = await self._consumer.getmany(self.partition, timeout_ms=_READ_MS, max_records=most)
        return found.get(self.partition, []), await self._consumer.position(self.partition)

    async def write(self, records: Sequence[OutgoingRecord], next_offset: int) -> None:
        """Write records and the next offset in one transaction; see `PartitionWriter.write`."""
        await self._writer.write(records, next_offset)
