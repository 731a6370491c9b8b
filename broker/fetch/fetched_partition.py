"""Partition that is read: fetched batches that were not taken yet, and the position of the next fetch.

Batches stay encoded until their records are taken, so a consumer that takes a few at a time blocks the event loop only
briefly. A damaged batch is read again before it is passed over, since its bytes may have changed on the way.

Records that can never be read are logged and counted (`Losses`), since nothing else reports them.
"""

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from aiokafka import TopicPartition
from prometheus_client import Counter

from broker.fetch.record_batches import (
    UNKNOWN_EPOCH,
    AbortedTransaction,
    Damage,
    FetchedBatch,
    epoch_of,
    mark_aborted,
    read_batch,
    split,
)
from broker.kafka.types import Record, record_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator


log = logging.getLogger(__name__)

OBJECT_BYTES: Final = 500
"""Approximate bytes in memory that a record takes beside its contents."""
BELIEVED_AFTER: Final = 3
"""Number of times that a batch is read damaged before it is passed over."""
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


class Divergence(NamedTuple):
    """Point up to which a log equals the one that was read before. It was cut there, and may hold other records now."""

    epoch: int
    """Epoch of the leader that wrote the last record before `end`."""
    end: int


class TakenRecords(NamedTuple):
    """Records of one partition, in order."""

    records: list[Record]
    sizes: Mapping[int, int]
    """Bytes of each record in memory, by offset; empty if sizes do not matter."""


class FetchedPartition:
    """Partition that is read from `position` on; a negative position is `START` or `END`, and yet to be found."""

    __slots__ = ("_damaged_at", "_losses", "_reading", "_tries", "_waiting", "end", "epoch", "failures", "found_s",
                 "held_bytes", "key", "out_of_range", "position", "seeking", "set_aside", "start", "taken")  # fmt: skip

    def __init__(self, key: TopicPartition, position: int, start: asyncio.Future[int], losses: Losses) -> None:
        self.key = key
        self.position = position
        """Offset at which the next fetch begins, or `START` or `END`."""
        self.epoch = UNKNOWN_EPOCH
        """Epoch of the leader that wrote the record before `position`; a leader without that record tells where its log
        ends."""
        self.start = start
        """Future of the first position."""
        self.taken = position
        """Offset behind all records that were taken or passed over."""
        self.end: int | None = None
        """Offset behind the partition's last record, as received last."""
        self.seeking = False
        """True while its position is looked up."""
        self.out_of_range = False
        """True if the log does not hold its position."""
        self.set_aside = False
        """True while it is not fetched, for a moment after its broker refused it."""
        self.failures = 0
        """Number of times in a row that its broker refused it."""
        self.found_s = 0.0
        """Time at which a fetch last returned records, by the monotonic clock."""
        self.held_bytes = 0
        self._waiting: deque[FetchedBatch] = deque()
        self._reading: Iterator[Record | Damage] | None = None
        self._losses = losses
        self._damaged_at = -1
        self._tries = 0

    def move_to(self, position: int) -> None:
        """Continue from `position`, and drop the fetched batches."""
        self.position = self.taken = position
        self.epoch = UNKNOWN_EPOCH
        self.held_bytes = 0
        self._waiting.clear()
        self._reading = None
        if position >= 0 and not self.start.done():
            self.start.set_result(position)

    def skip_to(self, position: int) -> None:
        """Fetch from `position` on; batches fetched before can still be taken."""
        self.position = position
        self.epoch = UNKNOWN_EPOCH

    def add(self, data: bytes, end: int, aborted: Sequence[AbortedTransaction] = ()) -> bool:
        """Add the data of a fetch from `position`; False if there is data without a whole batch."""
        self.end = end
        self.failures = 0
        batches = split(data, self.position, end)
        if not batches:
            return not data
        if aborted:
            mark_aborted(batches, aborted)
        self._waiting += batches
        self.held_bytes += sum(len(batch.data) for batch in batches)
        self.position = batches[-1].next
        self.epoch = epoch_of(batches[-1])
        return True

    def go_back(self, divergence: Divergence) -> None:
        """Continue from the point where the log was cut; records fetched behind it may have been replaced."""
        if divergence.end >= self.position:
            self.epoch = divergence.epoch
            return
        self._losses.replaced(self.key, self.position, divergence.end)
        self.move_to(min(divergence.end, self.taken))

    def pass_over(self, damage: Damage) -> bool:
        """Note damage; return true if it is passed over, false if it is read again first."""
        if not damage.certain:
            self._tries = self._tries + 1 if self._damaged_at == damage.first else 1
            self._damaged_at = damage.first
            if self._tries < BELIEVED_AFTER:
                self.move_to(damage.first)
                return False
        self._losses.damaged(self.key, damage)
        self.taken = max(self.taken, damage.next)
        return True

    def take(self, limit: int, most_bytes: int | None = None) -> TakenRecords:
        """Take up to `limit` fetched records; the last one may go beyond `most_bytes`.

        None: sizes do not matter.
        """
        taken: list[Record] = []
        sizes: dict[int, int] = {}
        room = sys.maxsize if most_bytes is None else most_bytes
        while len(taken) < limit and room > 0:
            if self._reading is None:
                if not self._waiting:
                    break
                self._reading = read_batch(self.key.topic, self.key.partition, self._waiting[0], self.taken)
            for found in self._reading:
                if isinstance(found, Damage):
                    if not self.pass_over(found):
                        return TakenRecords(taken, sizes)
                    continue
                taken.append(found)
                if most_bytes is not None:
                    size = sizes[found.offset] = OBJECT_BYTES + record_bytes(found)
                    room -= size
                self.taken = found.offset + 1
                if len(taken) == limit or room <= 0:
                    break
            else:
                self._reading = None
                batch = self._waiting.popleft()
                self.held_bytes -= len(batch.data)
                self.taken = max(self.taken, batch.next)
        return TakenRecords(taken, sizes)

    @property
    def ready(self) -> bool:
        """True if there may be records to take."""
        return bool(self._waiting)
