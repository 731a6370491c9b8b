"""The records of one partition: those that wait, the one batch under way, and the sequence that keeps it single.

    add -> waiting -> take -> batch under way -> written -> the next
                                              -> put_back -> waiting (split, or with another identity)
                                              -> to be tried again: the same bytes, hence the same sequence

Rules.
* One batch at a time, so the sequence advances only when one is written. What the broker has refused left no gap.
* A batch that is given up though it may have been written makes the identity useless here: the next batch would be out
  of sequence, or taken for the one given up. It is forgotten, and another one begins at 0.
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
    from broker.kafka_types import KafkaError

BATCH_BYTES: Final = 256 * 1024
"""Bytes of a batch of several records, at most. One holds what came while the batch before was under way."""
_SEQUENCES: Final = 2**31


class ProducerIdentity(NamedTuple):
    """Who writes, as far as the broker tells repeated batches from new ones."""

    producer_id: int
    epoch: int


ANONYMOUS: Final = ProducerIdentity(-1, -1)
"""Identity of a producer whose batches may be written twice when they are sent again."""


class RecordBatch:
    """Records encoded together."""

    __slots__ = ("attempts", "data", "first_sent_s", "maybe_written", "records")

    def __init__(self, records: list[PendingRecord], data: bytes) -> None:
        self.records = records
        self.data = data
        self.attempts = 0
        """How often it was sent in vain."""
        self.first_sent_s: float | None = None
        """When it was first sent, by the monotonic clock."""
        self.maybe_written = False
        """Whether the broker may have it, though it did not say so."""

    def pending(self) -> list[PendingRecord]:
        """Records of it that have not ended."""
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
        """Node that leads the partition; -1: none is known."""
        self.waiting: deque[PendingRecord] = deque()
        self.linger_until = inf
        """Time of the event loop until which all that wait may linger."""
        self.batch: RecordBatch | None = None
        """The batch under way, or to be tried again."""
        self.in_request = False
        """Whether the batch is in a request that is not answered."""
        self.busy = False
        """Whether somebody takes care of what is here: it is to be sent, under way, or waits for something."""
        self.identity: ProducerIdentity | None = None
        self.sequence = 0
        self.slow = False
        """Whether the last request with a batch of it took long."""
        self.batch_bytes = BATCH_BYTES
        self.problem: KafkaError | None = None
        """What kept the batch out the last time."""

    def __repr__(self) -> str:
        return f"{self.topic}/{self.number}"

    def wait(self, record: PendingRecord, until: float) -> None:
        """Let a record wait, which may linger `until` then."""
        self.waiting.append(record)
        self.linger_until = min(self.linger_until, until)

    @property
    def due(self) -> float:
        """Time of the event loop until which what is to be sent may linger."""
        return self.linger_until if self.batch is None else 0.0

    @property
    def has_work(self) -> bool:
        """Whether there is anything to send."""
        return self.batch is not None or bool(self.waiting)

    def drop_ended(self) -> ProducerIdentity | None:
        """Drop a batch of which no record is left to answer for; returns the identity that this made useless."""
        batch = self.batch
        if batch is None or self.in_request or any(record.on_ack is not None for record in batch.records):
            return None
        self.batch = None
        return self.forget_identity() if batch.maybe_written else None

    def take(self, compression: int) -> RecordBatch | None:
        """Take the batch to send now: the one to be tried again, or a new one; None if nothing waits."""
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
        """Put the records of the batch, which was not written, back to those that wait, before them."""
        assert self.batch is not None
        self.waiting.extendleft(reversed(self.batch.pending()))
        self.linger_until = 0.0
        self.batch = None

    def split(self) -> None:
        """Make smaller batches from now on: this one was too large for the topic."""
        assert self.batch is not None
        self.batch_bytes = min(self.batch_bytes, sum(record.size for record in self.batch.records)) // 2

    def forget_identity(self) -> ProducerIdentity | None:
        """Begin the sequence anew, under an identity yet to come; returns the one that must not be used here again."""
        identity, self.sequence = self.identity, 0
        if identity is not ANONYMOUS:
            self.identity = None
        return identity

    def expired(self, now: float) -> Iterator[PendingRecord]:
        """Yield the records whose deadline has passed; those that wait are removed."""
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
    """Choose the queue of a record: that of its partition, if it names one, else by its key as all clients do."""
    if partition is not None:
        return queues[partition]
    if len(queues) == 1:
        return queues[0]
    if key is None:
        return random.choice([queue for queue in queues if queue.leader >= 0] or queues)
    return queues[(murmur2(key) & 0x7FFFFFFF) % len(queues)]
