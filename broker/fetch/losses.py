"""Records that can never be read: each loss is logged and counted, since nothing else reports it."""

import logging
from typing import Final

from aiokafka import TopicPartition
from prometheus_client import Counter

from broker.fetch.record_batches import Damage

log = logging.getLogger(__name__)

LOST: Final = Counter(
    "infaas_records_lost_total",
    "Lost records: deleted before they were read, damaged, or cut off at the end of the log",
    ["topic", "why"],
)


class Losses:
    """Alarm for lost records; a silent one is for a process that only looks at the partitions of others."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent

    def deleted(self, partition: TopicPartition, position: int, start: int) -> None:
        """Report that the log begins behind the next position."""
        what = f"deleted before they were read: log start {start}, next offset {position}"
        self._report(partition, "deleted", start - position, what)

    def cut(self, partition: TopicPartition, position: int, start: int, end: int) -> None:
        """Report that the log ends before the next position, and is read again from its start."""
        what = f"cut off at the end of the log: log end {end}, next offset {position}; reading again from {start}"
        self._report(partition, "cut", position - end, what)

    def replaced(self, partition: TopicPartition, position: int, end: int) -> None:
        """Report that the log was cut at `end`, before the next position, and may hold other records since."""
        what = f"cut off at the end of the log: log end {end}, next offset {position}; reading from the end"
        self._report(partition, "cut", position - end, what)

    def damaged(self, partition: TopicPartition, damage: Damage) -> None:
        """Report that the log cannot be read at some offsets."""
        what = f"skipped, because they cannot be read from {damage.first}: {damage.reason}"
        self._report(partition, "damaged", damage.next - damage.first, what)

    def _report(self, partition: TopicPartition, why: str, count: int, what: str) -> None:
        if not self._silent:
            LOST.labels(partition.topic, why).inc(count)
            log.error("%s/%d: %d records are lost, %s", partition.topic, partition.partition, count, what)
