"""Records that can never be read: each loss is logged and counted, since nothing else reports it."""

import logging
from typing import Final

from aiokafka import TopicPartition
from prometheus_client import Counter

from broker.fetch.record_batches import Damage

log = logging.getLogger(__name__)

LOST: Final = Counter(
    "infaas_records_lost_total",
    "Records that can never be read: deleted before they were, damaged, or gone with the end of a log that was cut",
    ["topic", "why"],
)


class Losses:
    """Alarm for lost records; a silent one is for a process that only looks at the partitions of others."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent

    def deleted(self, partition: TopicPartition, position: int, start: int) -> None:
        """Report that the log begins behind the next position."""
        what = f"deleted before they were read: the log begins at {start}, to be read was {position}"
        self._report(partition, "deleted", start - position, what)

    def cut(self, partition: TopicPartition, position: int, start: int, end: int) -> None:
        """Report that the log ends before the next position, and is read again from its start."""
        what = f"gone with the end of the log: it ends at {end}, to be read was {position}; reading all, from {start}"
        self._report(partition, "cut", position - end, what)

    def replaced(self, partition: TopicPartition, position: int, end: int) -> None:
        """Report that the log was cut at `end`, before the next position, and may hold other records since."""
        what = f"gone with the end of the log: it was cut at {end}, to be read was {position}; reading on from the cut"
        self._report(partition, "cut", position - end, what)

    def damaged(self, partition: TopicPartition, damage: Damage) -> None:
        """Report that the log cannot be read at some offsets."""
        what = f"passed over, they cannot be read at {damage.first} and on: {damage.reason}"
        self._report(partition, "damaged", damage.next - damage.first, what)

    def _report(self, partition: TopicPartition, why: str, count: int, what: str) -> None:
        if not self._silent:
            LOST.labels(partition.topic, why).inc(count)
            log.error("%s/%d: %d records are lost, %s", partition.topic, partition.partition, count, what)
