"""Records of one partition: the waiting ones, the batch in progress, and the sequence that prevents duplicates.

    add -> waiting -> take -> batch in progress -> written -> the next
                                                -> put_back -> waiting (split, or with another identity)
                                                -> to be tried again: the same bytes, hence the same sequence

Rules.
* There is one batch at a time, so the sequence advances only when a batch is written. A refused batch leaves no gap.
* A batch that is given up although it may have been written makes the identity useless here: the next batch would be
  out of sequence, or be taken for the one that was given up. The identity is dropped, and another one begins at 0.
* A record fails at its own deadline, wherever it is. Its batch may be written all the same.

No I/O, no clock, no event loop.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from aiokafka.partitioner import murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from broker.producing.records import PendingRecord

if TYPE_CHECKING:
    from broker.kafka.types import KafkaError

BATCH_BYTES: Final = 256 * 1024
"""Largest number of bytes of a batch of several records. A batch holds the records that came during the previous
one."""
_SEQUENCES: Final = 2**31


class ProducerIdentity(NamedTuple):
    """Identity of a producer, by which the broker tells repeated batches from new ones."""

    producer_id: int
    epoch: int


ANONYMOUS: Final = ProducerIdentity(-1, -1)
"""Identity of a producer whose batches may be written twice when they are sent again."""


class RecordBatch:
    """Records that are encoded together."""

    __slots__ = ("attempts", "data", "first_sent_s", "maybe_written", "records")

    def __init__(self, records: list[PendingRecord], data: bytes) -> None:
        self.records = records
        self.data = data
        self.attempts = 0
        """Number of failed attempts."""
        self.first_sent_s: float | None = None
        """Time of the first attempt, by the monotonic clock."""
        self.maybe_written = False
        """True if the broker may have written it without an acknowledgement."""

    def pending(self) -> list[PendingRecord]:
        """Return its records that have not ended."""
        return [record for record in self.records if record.on_ack is not None]


class PartitionQueue:
    """Queue of the records of one partition."""

    __slots__ = (
        "batch", "batch_bytes", "busy", "identity", "in_request", "leader", "linger_until", "number", "problem",
        "sequence", "slow", "topic", "waiting",
    )  # fmt: skip

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.leader = -1
        """Node that leads the partition; -1: unknown."""
        self.waiting: deque[PendingRecord] = deque()
        self.linger_until = inf
        """Event-loop time until which all waiting records may linger."""
        self.batch: RecordBatch | None = None
        """Batch in progress, or to be tried again."""
        self.in_request = False
        """True if the batch is in a request without an answer."""
        self.busy = False
        """True if the sender handles the queue: its records are to be sent, in progress, or waiting for a condition."""
        self.identity: ProducerIdentity | None = None
        self.sequence = 0
        self.slow = False
        """True if the last request with a batch of this queue was slow."""
        self.batch_bytes = BATCH_BYTES
        self.problem: KafkaError | None = None
        """Error of the last attempt."""

    def __repr__(self) -> str:
        return f"{self.topic}/{self.number}"

    def wait(self, record: PendingRecord, until: float) -> None:
        """Add a record, which may linger `until` that event-loop time."""
        self.waiting.append(record)
        self.linger_until = min(self.linger_until, until)

    @property
    def due(self) -> float:
        """Event-loop time until which the records to be sent may linger."""
        return self.linger_until if self.batch is None else 0.0

    @property
    def has_work(self) -> bool:
        """True if there is anything to send."""
        return self.batch is not None or bool(self.waiting)

    def drop_ended(self) -> ProducerIdentity | None:
        """Drop a batch whose records have all ended; return the identity that this made useless, if any."""
        batch = self.batch
        if batch is None or self.in_request or any(record.on_ack is not None for record in batch.records):
            return None
        self.batch = None
        return self.forget_identity() if batch.maybe_written else None

    def take(self, compression: int) -> RecordBatch | None:
        """Return the batch to send now: the one to be tried again, or a new one; None if no record waits."""
        if self.batch is None and self.waiting:
            self.batch = self._build(compression)
            self.linger_until = 0.0 if self.waiting else inf
        self.in_request = self.batch is not None
        return self.batch

    def written(self) -> None:
        """Note that the batch is written."""
        assert self.batch is not None
        self.sequence = (self.sequence + len(self.batch.records)) % _SEQUENCES
        self.batch = self.problem = None

    def put_back(self) -> None:
        """Put the records of the batch, which was not written, back in front of the waiting ones."""
        assert self.batch is not None
        self.waiting.extendleft(reversed(self.batch.pending()))
        self.linger_until = 0.0
        self.batch = None

    def split(self) -> None:
        """Make smaller batches from now on, since this one was too large for the topic."""
        assert self.batch is not None
        self.batch_bytes = min(self.batch_bytes, sum(record.size for record in self.batch.records)) // 2

    def forget_identity(self) -> ProducerIdentity | None:
        """Restart the sequence under another identity; return the identity that must not be used here again."""
        identity, self.sequence = self.identity, 0
        if identity is not ANONYMOUS:
            self.identity = None
        return identity

    def expired(self, now: float) -> Iterator[PendingRecord]:
        """Yield the records whose deadline has passed, and remove them from the waiting ones."""
        for record in self.batch.records if self.batch is not None else ():
            if record.deadline > now:
                break
            if record.on_ack is not None:
                yield record
        while self.waiting and self.waiting[0].deadline <= now:
            yield self.waiting.popleft()

    def _build(self, compression: int) -> RecordBatch:
        identity = self.identity or ANONYMOUS
        sequence = -1 if identity is ANONYMOUS else self.sequence
        builder = DefaultRecordBatchBuilder(2, compression, 0, *identity, sequence, self.batch_bytes)
        records: list[PendingRecord] = []
        waiting = self.waiting
        while waiting:
            record = waiting[0]
            headers = record.headers
            if builder.append(len(records), record.timestamp_ms, record.key, record.value, headers) is None:  # pyright: ignore
                break
            records.append(waiting.popleft())
        return RecordBatch(records, bytes(builder.build()))


def choose_queue(queues: Sequence[PartitionQueue], key: bytes | None, partition: int | None) -> PartitionQueue:
    """Return the queue of a record: that of its partition, if it names one, else by its key as all clients do."""
    if partition is not None:
        return queues[partition]
    if len(queues) == 1:
        return queues[0]
    if key is None:
        return random.choice([queue for queue in queues if queue.leader >= 0] or queues)
    return queues[(murmur2(key) & 0x7FFFFFFF) % len(queues)]
