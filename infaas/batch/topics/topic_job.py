"""A batch job from topic to topic. Any number of processes may run the same job; they share its partitions.

    PartitionStream -> RecordChunk -> AnswersInOrder (budget, answer) -> TopicOutput -> one transaction per chunk

Partitions are processed independently, each in order. The job ends at the end offsets that the topic had at the start,
once the whole group has reached them. A process that is done waits until then, to take over partitions of a process
that dies. With `follow` the job never ends.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from broker.exactly_once.partition_stream import PartitionStream
from broker.exactly_once.shared_topic import SharedTopic
from broker.kafka_types import KafkaError, TopicPartition
from infaas.batch.limits import BatchBudget, BatchLimits
from infaas.batch.rows import Chunk, ChunkResult
from infaas.batch.sink import Progress
from infaas.batch.topics.record_chunk import FailedRecord, RecordChunk
from infaas.batch.topics.topic_output import TopicOutput
from infaas.batch.window import Answer, AnswersInOrder
from process.event_wait import wait_within
from schemas.rows.catalog import TensorSpec

log = logging.getLogger(__name__)

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
        self, shared: SharedTopic, output: TopicOutput, signature: Sequence[TensorSpec], answer: Answer, *,
        limits: BatchLimits, chunk_records: int, follow: bool, observer: TopicObserver,
    ) -> None:  # fmt: skip
        self._shared = shared
        self._output = output
        self._signature = signature
        self._answer = answer
        self._limits = limits
        self._chunk_records = chunk_records
        self._follow = follow
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
        """Process the records of one partition, one transaction per chunk."""
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
                taken.append(RecordChunk(records, position, self._signature))
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
