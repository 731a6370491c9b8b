"""A batch job from topic to topic. Any number of processes may run the same job; they share its partitions.

    PartitionStream -> RecordChunk -> AnswersInOrder (budget, answer) -> TopicOutput -> one transaction per chunk

Partitions are processed independently, each in order. The job ends at the end offsets that the topic had at the start,
once the whole group has reached them. A process that is done waits until then, to take over partitions of a process
that dies. With `follow` the job never ends. An output record keeps its key and headers, except INFaaS protocol headers.
A deleted row becomes a tombstone, a null value of its key, so that a compacted output topic follows a table.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from broker.dead_letters import letter as letters
from broker.delivery.exactly_once import OutgoingRecord, PartitionStream, SharedTopic
from broker.kafka.types import KafkaError, Record, TopicPartition
from infaas.batch.asker import AnswersInOrder, ChunkFunction
from infaas.batch.limits import BatchBudget, BatchLimits
from infaas.batch.rows import Chunk, ChunkResult
from infaas.batch.sink import Progress
from infaas.batch.topic_records import AnsweredRecord, DeletedRow, FailedRecord, Outcome, RecordChunk, record_id
from process.pauses import wait_within
from schemas import headers as h
from schemas.errors import ErrorCode
from schemas.headers import RawHeaders
from schemas.result import OK
from schemas.rows.catalog import TensorSpec

log = logging.getLogger(__name__)

_OURS: Final = "infaas-"
_FORMS: Final = (h.CONTENT_TYPE, h.JSON_LENGTH)
_SPARE_BYTES: Final = 1024
"""Bytes allowed for a record besides its key, value and headers."""


class TopicOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Output topics for answers and for failed records."""

    topic: str
    failed_topic: str
    partitions: dict[str, int]
    """Number of partitions of the two output topics and of the input topic."""
    headers: frozenset[str] | None
    """Names of the headers that answers keep; None: all except INFaaS protocol headers."""
    max_bytes: int
    """Maximum record size in bytes."""

    def record(self, outcome: Outcome) -> OutgoingRecord:
        """Return the output record of an outcome; an answer above `max_bytes` becomes a failure."""
        if isinstance(outcome, FailedRecord):
            return self._failure(outcome)
        if isinstance(outcome, DeletedRow):
            return self._result(outcome.record, None, {})
        answer = self._answer(outcome)
        size = _bytes(answer.key, answer.value, answer.headers)
        if size <= self.max_bytes:
            return answer
        reason = f"the answer has {size} bytes, more than Kafka accepts (INFAAS_KAFKA_MAX_RECORD_BYTES)"
        return self._failure(FailedRecord(outcome.record, ErrorCode.INVALID_REQUEST, reason))

    def _answer(self, outcome: AnsweredRecord) -> OutgoingRecord:
        answer = outcome.answer
        own = {h.VARIANT: outcome.variant, h.CONTENT_TYPE: answer.content_type}
        if answer.json_length is not None:
            own[h.JSON_LENGTH] = str(answer.json_length)
        return self._result(outcome.record, answer.value, own)

    def _result(self, record: Record, value: bytes | None, more: Mapping[str, str]) -> OutgoingRecord:
        headers = [(name, text or b"") for name, text in record.headers if self._is_carried(name)]
        own = {h.ID: record_id(record), h.STATUS: OK, **more}
        headers += [(name, text.encode()) for name, text in own.items()]
        return OutgoingRecord(self.topic, self._partition(record, self.topic), record.key, value, headers)

    def _failure(self, failed: FailedRecord) -> OutgoingRecord:
        """Return the record with the reason as headers, like a dead letter; shortened if above `max_bytes`."""
        record = failed.record
        own = {
            h.ID: record_id(record),
            h.STATUS: str(failed.code),
            letters.REASON: failed.reason[:1000],
            letters.TOPIC: record.topic,
            letters.PARTITION: str(record.partition),
            letters.OFFSET: str(record.offset),
        }
        key, value = record.key, record.value
        headers = [(n, v or b"") for n, v in record.headers if n not in own and n != h.REPLY_STREAM]
        added = [(name, text.encode(errors="replace")) for name, text in own.items()]
        if _bytes(key, value, headers + added) > self.max_bytes:
            key, value, headers = letters.shortened(key, value, headers, self.max_bytes // 2)
        partition = self._partition(record, self.failed_topic)
        return OutgoingRecord(self.failed_topic, partition, key, value or b"", headers + added)

    def _is_carried(self, name: str) -> bool:
        if self.headers is not None:
            return name in self.headers
        return not name.startswith(_OURS) and name not in _FORMS

    def _partition(self, record: Record, topic: str) -> int | None:
        """Return the partition of an output record.

        It is the input's partition if both topics have the same number of partitions. Otherwise the key decides (None),
        so that records of a key stay in order; without a key, the partition modulo the number of partitions.
        """
        count = self.partitions[topic]
        if count == self.partitions[record.topic]:
            return record.partition
        return record.partition % count if record.key is None else None


def _bytes(key: bytes | None, value: bytes | None, headers: RawHeaders) -> int:
    """Return an upper bound of a record's size in bytes."""
    return len(value or b"") + len(key or b"") + sum(len(n) + len(v) for n, v in headers) + _SPARE_BYTES


_LOOK_S: Final = 0.5
_LEAST_IN_FLIGHT: Final = 2


class TopicLag(msgspec.Struct, frozen=True):
    """Progress of the consumer group."""

    total: int
    """Approximate number of records from this process's first lag check to the end."""
    left: int
    partitions: int
    """Number of partitions assigned to this process."""


class TopicObserver(Protocol):
    """Receiver of a batch job's progress."""

    def looked(self, lag: TopicLag, progress: Progress) -> None:
        """Called twice a second with the lag of the whole group and the progress of this process."""
        ...


class TopicBatchJob:
    """A batch job that is run once."""

    def __init__(
        self, shared: SharedTopic, output: TopicOutput, signature: Sequence[TensorSpec], answer: ChunkFunction, *,
        limits: BatchLimits, chunk_records: int, follow: bool, observer: TopicObserver, answer_only: bool = False,
    ) -> None:  # fmt: skip
        self._shared = shared
        self._output = output
        self._signature = signature
        self._answer = answer
        self._limits = limits
        self._chunk_records = chunk_records
        self._follow = follow
        self._answer_only = answer_only
        self._observer = observer
        self._progress = Progress()
        self._budget = BatchBudget(limits, self._progress)
        self._ends: Mapping[TopicPartition, int] | None = None
        """End offset of each partition at the start; None with `follow`."""
        self._began_s = time.monotonic()

    async def run(self, stop: asyncio.Event) -> Progress:
        """Run the job to its end or until `stop` is set; returns the progress of this process.

        Raises:
            OperatorError: the job cannot go on, or a limit is reached; committed results stay, and a later run resumes
                there.
            QueryError: an error that affects all records alike.
        """
        if not self._follow:
            self._ends = await self._shared.ends()
        try:
            async with asyncio.timeout(self._limits.deadline_s), asyncio.TaskGroup() as tasks:
                working = tasks.create_task(self._shared.run(self._work))
                await self._until_done(stop)
                working.cancel()
        except TimeoutError:
            self._budget.check_time(self._elapsed_s())
            raise
        return self._progress

    async def _work(self, stream: PartitionStream) -> None:
        taken = deque[RecordChunk]()
        in_flight = max(self._limits.in_flight // max(self._shared.ours, 1), _LEAST_IN_FLIGHT)
        async with AnswersInOrder(self._chunks(stream, taken), self._ask, in_flight) as results:
            async for result in results:
                chunk = taken.popleft()
                outcomes = chunk.outcomes(result)
                await stream.write([self._output.record(outcome) for outcome in outcomes], chunk.next_offset)
                self._count(len(outcomes), sum(isinstance(one, FailedRecord) for one in outcomes), result)

    async def _chunks(self, stream: PartitionStream, taken: deque[RecordChunk]) -> AsyncGenerator[Chunk]:
        end = None if self._ends is None else self._ends[stream.partition]
        position = stream.begin
        while end is None or position < end:
            before = position
            records, position = await stream.read(self._chunk_records)
            if end is not None and position >= end:
                records, position = [record for record in records if record.offset < end], end
            if position > before:  # transaction markers and compacted records advance it, too
                taken.append(RecordChunk(records, position, self._signature, answer_only=self._answer_only))
                yield taken[-1].chunk()

    async def _ask(self, chunk: Chunk) -> ChunkResult:
        records = len(chunk.unreadable) + sum(len(np.unique(rows.numbers)) for rows in chunk.rows)
        self._budget.admit(records, self._elapsed_s())
        return await self._answer(chunk)

    def _count(self, records: int, failed: int, result: ChunkResult) -> None:
        done = self._progress
        self._progress = Progress(
            answered=done.answered + records - failed,
            failed=done.failed + failed,
            cost=done.cost + result.cost,
            seconds=self._elapsed_s(),
        )
        self._budget.take(self._progress, result)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    async def _until_done(self, stop: asyncio.Event) -> None:
        """Wait until the group has reached the end offsets; report its lag meanwhile."""
        total = 0
        while not stop.is_set():
            try:
                left = await self._shared.left(self._ends or await self._shared.ends())
            except (KafkaError, TimeoutError) as error:
                log.warning("cannot read the progress of group %s from Kafka: %r", self._shared.group, error)
            else:
                total = max(total, self._progress.rows + left)
                self._observer.looked(TopicLag(total, left, self._shared.ours), self._progress)
                if self._ends is not None and left == 0:
                    return
            await wait_within(_LOOK_S, stop)
