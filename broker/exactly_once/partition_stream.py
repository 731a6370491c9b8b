"""One partition while it is ours: its records from where the group has come to, and where to write what follows."""

from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.exactly_once.partition_writer import OutgoingRecord, PartitionWriter
from broker.kafka_types import Record

_READ_MS = 1000


class PartitionStream:
    """A partition that this process reads and writes the outcome of, from `begin` on."""

    def __init__(
        self, consumer: AIOKafkaConsumer, writer: PartitionWriter, partition: TopicPartition, begin: int
    ) -> None:
        self.partition = partition
        self.begin = begin
        self._consumer = consumer
        self._writer = writer

    async def read(self, most: int) -> tuple[list[Record], int]:
        """Return the next records, none if there were none for a while, and the offset behind them.

        That may be further than the last record: marks of transactions have offsets, too.
        """
        found = await self._consumer.getmany(self.partition, timeout_ms=_READ_MS, max_records=most)
        return found.get(self.partition, []), await self._consumer.position(self.partition)

    async def write(self, records: Sequence[OutgoingRecord], next_offset: int) -> None:
        """See `PartitionWriter.write`."""
        await self._writer.write(records, next_offset)
