"""A batch job: reads chunks of rows from a source, queries them, and writes the results to a sink with checkpoints.

    source -> AnswersInOrder (budget, ChunkAsker) -> sink -> commit: after the first chunk, every second, at the end

A killed job resumes from its last commit with the same chunks, so its output is the same.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from infaas.batch.asker import AnswersInOrder, ChunkFunction
from infaas.batch.limits import BatchBudget, BatchLimits
from infaas.batch.rows import Chunk, ChunkResult, RowSource
from infaas.batch.sink import BatchTerms, Progress, ResultSink
from schemas.errors import OperatorError, QueryError

_COMMIT_S: Final = 1.0
"""Seconds between commits: at most this much work is repeated after a crash."""
_ENDLESS: Final = BatchLimits()


class BatchObserver(Protocol):
    """Receiver of a batch job's progress."""

    def begun(self, total: int | None, progress: Progress) -> None:
        """Called when the job starts, or resumes from `progress`."""
        ...

    def advanced(self, progress: Progress) -> None:
        """Called after each chunk."""
        ...


class BatchJob:
    """A batch job that is run once. The caller closes the sink."""

    def __init__(
        self, source: RowSource, sink: ResultSink, terms: BatchTerms, answer: ChunkFunction, *,
        limits: BatchLimits = _ENDLESS, observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._source = source
        self._sink = sink
        self._terms = terms
        self._answer = answer
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._progress = Progress()

    async def run(self) -> Progress:
        """Run the job to its end; returns its progress.

        Raises:
            OperatorError: the job cannot go on, or a limit is reached; committed results stay, and a later run resumes
                there.
            QueryError: an error that affects all rows alike.
        """
        self._began_s = self._clock()
        self._progress = await self._sink.open(self._terms) or Progress()
        self._budget = BatchBudget(self._limits, self._progress)
        if self._observer is not None:
            self._observer.begun(self._source.total, self._progress)
        try:
            async with asyncio.timeout(self._limits.deadline_s):
                await self._pass_through()
        except (OperatorError, QueryError, TimeoutError) as error:
            await self._sink.commit(self._progress)
            if isinstance(error, TimeoutError):
                self._budget.check_time(self._elapsed_s())
            raise
        await self._sink.finish(self._progress)
        return self._progress

    async def _pass_through(self) -> None:
        before_s, committed_s = self._progress.seconds, -_COMMIT_S  # the first commit shows early if the sink fails
        chunks = self._source.chunks(self._progress.position, self._terms.chunk_rows)
        async with AnswersInOrder(chunks, self._ask, self._limits.in_flight) as results:
            async for result in results:
                await self._sink.write(result)
                elapsed_s = self._elapsed_s()
                self._progress = self._progress.after(result, before_s + elapsed_s)
                if self._observer is not None:
                    self._observer.advanced(self._progress)
                if elapsed_s - committed_s >= _COMMIT_S:
                    await self._sink.commit(self._progress)
                    committed_s = elapsed_s
                self._budget.take(self._progress, result)

    async def _ask(self, chunk: Chunk) -> ChunkResult:
        self._budget.admit(chunk.size, self._elapsed_s())
        return await self._answer(chunk)

    def _elapsed_s(self) -> float:
        return self._clock() - self._began_s
