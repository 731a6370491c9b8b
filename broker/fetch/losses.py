"""Records that can never be read: an alarm each time, and a count, since nothing else would tell of them."""

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
    """Alarm for what can never be read; a silent one is for who only looks at what others read."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent

    def deleted(self, partition: TopicPartition, position: int, start: int) -> None:
        """Say that the log begins only after what was to be read next."""
        what = f"deleted before they were read: the log begins at {start}, to be read was {position}"
        self._report(partition, "deleted", start - position, what)

    def cut(self, partition: TopicPartition, position: int, start: int, end: int) -> None:
        """Say that the log ends before what was to be read next, and is read from its start again."""
        what = f"gone with the end of the log: it ends at {end}, to be read was {position}; reading all, from {start}"
        self._report(partition, "cut", position - end, what)

    def replaced(self, partition: TopicPartition, position: int, end: int) -> None:
        """Say that the log was cut at `end`, before what was to be read next, and may hold other records since."""
        what = f"gone with the end of the log: it was cut at {end}, to be read was {position}; reading on from the cut"
        self._report(partition, "cut", position - end, what)

    def damaged(self, partition: TopicPartition, damage: Damage) -> None:
        """Say that what the log holds at some offsets cannot be read."""
        what = f"passed over, they cannot be read at {damage.first} and on: {damage.reason}"
        self._report(partition, "damaged", damage.next - damage.first, what)

    def _report(self, partition: TopicPartition, why: str, count: int, what: str) -> None:
        if not self._silent:
            LOST.labels(partition.topic, why).inc(count)
            log.error("%s/%d: %d records are lost, %s", partition.topic, partition.partition, count, what)
