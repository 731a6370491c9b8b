"""Queries for chunks: a bounded number in flight, retries, and a search for the failing rows of a failed query.

    source -> reader -> (at most `in_flight` chunks in progress or finished) -> results in the order of the chunks

Rules.
* Retryable errors (time, capacity, an unavailable service) are retried with exponential back-off. The job ends only
  after `patience_s` without any answer; a later run resumes it.
* If a query fails because of its rows (invalid rows, or the model fails on them), its halves are sent separately, down
  to the failing row. All other rows are answered.
* Errors that affect all rows alike (unknown task, unsatisfiable needs) end the job.
* The bound covers all chunks that were read and whose results were not yet taken, so it also bounds the reorder buffer.
  While the oldest chunk is in progress, later ones finish and wait for it, and no further chunk is read.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self, TypeAlias

import msgspec

from infaas.batch.rows import Chunk, ChunkResult, InputRows, OutputRows, SourcePosition, failed_row
from infaas.client.client import Answer, InfaasClient, QueryOptions
from process.backoff import Backoff
from process.pauses import retry_until_reachable
from schemas.errors import InvalidRequest, ModelFailed, OperatorError, QueryError
from schemas.generation import COMPLETION_TOKENS, TEXT_OUTPUT
from schemas.query import Mode
from schemas.tensors import Array

_ANSWER_S: Final = 600.0
"""Timeout of a query in seconds before it is sent again, since its answer may have been lost."""
_BACKOFF: Final = Backoff(first_s=0.15, longest_s=4.0, jitter=0.5)
PATIENCE_S: Final = 1800.0
"""Seconds without any answer after which a batch job ends."""
_BLAMES_ROWS: Final = (InvalidRequest, ModelFailed)

ChunkFunction: TypeAlias = Callable[[Chunk], Awaitable[ChunkResult]]
"""Function that queries all rows of a chunk."""
QueryFunction: TypeAlias = Callable[[Mapping[str, Array]], Awaitable[Answer]]
"""Function that sends the inputs of one query and waits for its answer."""


def asking(client: InfaasClient, task: str, options: QueryOptions) -> QueryFunction:
    """Return a function that sends queries to a task; they are offline unless `options` sets another mode."""
    complete: QueryOptions = {"timeout_s": _ANSWER_S, "mode": Mode.OFFLINE, **options}

    async def ask(inputs: Mapping[str, Array]) -> Answer:
        return await client.infer(task, inputs, **complete)

    return ask


def cost_of(answer: Answer) -> float:
    """Return the USD of an answer; generated text has a price for each of its tokens."""
    tokens = answer.outputs.get(COMPLETION_TOKENS) if TEXT_OUTPUT in answer.outputs else None
    return (answer.cost or 0.0) / 1000 * (1 if tokens is None else int(tokens.sum()))


class Trouble(msgspec.Struct, frozen=True):
    """Reason why queries are being retried."""

    reason: str
    since_s: float
    """Seconds since the last answer."""


class ChunkAsker:
    """Sender of chunks; several chunks may be in progress at once.

    Args:
        ask: sends one query and waits for its answer, see `asking`.
        patience_s: seconds without any answer, despite retries, after which the job ends.
        on_trouble: called with the reason before each retry.
    """

    def __init__(
        self,
        ask: QueryFunction,
        *,
        patience_s: float = PATIENCE_S,
        on_trouble: Callable[[Trouble], None] = lambda _: None,
    ) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._on_trouble = on_trouble
        self._answered_s = time.monotonic()

    async def answer(self, chunk: Chunk) -> ChunkResult:
        """Query all rows of a chunk.

        Raises:
            OperatorError: there was no answer for longer than `patience_s`.
            QueryError: an error that affects all rows alike.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(self._ask_whole(rows)) for rows in chunk.rows]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return _joined([ChunkResult((), chunk.unreadable), *(task.result() for task in asked)], chunk.end)

    async def _ask_whole(self, rows: InputRows) -> ChunkResult:
        try:
            answer = await self._ask_until_answered(rows)
        except _BLAMES_ROWS as error:
            return await self._find_to_blame(rows, error)
        outputs = OutputRows(rows.numbers, answer.outputs, rows.ids, answer.variant)
        return ChunkResult((outputs,), cost=cost_of(answer))

    async def _find_to_blame(self, rows: InputRows, error: QueryError) -> ChunkResult:
        if len(rows) == 1:
            return ChunkResult((), (failed_row(int(rows.numbers[0]), error, rows.ids[0] if rows.ids else None),))
        middle = len(rows) // 2
        halves = (rows.slice(0, middle), rows.slice(middle, len(rows)))
        return _joined([await self._ask_whole(half) for half in halves])

    async def _ask_until_answered(self, rows: InputRows) -> Answer:
        began_s = time.monotonic()

        async def ask() -> Answer:
            answer = await self._ask(rows.inputs)
            self._answered_s = time.monotonic()
            return _checked(answer, rows)

        return await retry_until_reachable(
            ask,
            QueryError,
            _BACKOFF,
            may_pass=lambda error: error.retryable,
            failed=lambda error: self._note_trouble(error, began_s),
        )

    def _note_trouble(self, error: QueryError, began_s: float) -> None:
        """Report a retryable error; raise OperatorError once `patience_s` is exceeded."""
        silent_s = time.monotonic() - max(self._answered_s, began_s)
        if silent_s > self._patience_s:
            raise OperatorError(
                f"no answer for {silent_s:.0f} s: {error}. `infaas status` shows the running services; run the same "
                "command to resume"
            ) from error
        self._on_trouble(Trouble(str(error), silent_s))


def _joined(parts: Sequence[ChunkResult], end: SourcePosition | None = None) -> ChunkResult:
    answered = tuple(rows for part in parts for rows in part.answered)
    failed = sorted(row for part in parts for row in part.failed)
    return ChunkResult(answered, tuple(failed), end or {}, sum(part.cost for part in parts))


def _checked(answer: Answer, rows: InputRows) -> Answer:
    for name, array in answer.outputs.items():
        if array.ndim == 0 or len(array) != len(rows):
            raise ModelFailed(f"output {name} has shape {list(array.shape)} for {len(rows)} rows")
    return answer


class AnswersInOrder:
    """Results of chunks in order, or the first error; an async context manager and iterator.

    Args:
        chunks: read no faster than results are taken.
        answer: queries one chunk.
        in_flight: maximum number of chunks in flight.
    """

    def __init__(self, chunks: AsyncGenerator[Chunk], answer: ChunkFunction, in_flight: int) -> None:
        self._chunks = chunks
        self._answer = answer
        self._room = asyncio.Semaphore(in_flight)
        self._results: asyncio.Queue[asyncio.Task[ChunkResult | Exception] | Exception | None] = asyncio.Queue()
        """Bounded by `_room`, except for the end marker."""
        self._tasks = asyncio.TaskGroup()
        self._open: set[asyncio.Task[ChunkResult | Exception]] = set()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._reader = self._tasks.create_task(self._read(), name="batch reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        for task in self._open:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)  # the window's own tasks have no errors to add to the caller's

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChunkResult:
        """Wait for the result of the next chunk.

        Raises:
            Exception: the error of reading or querying; the iteration ends with it.
        """
        taken = await self._results.get()
        if taken is None:
            raise StopAsyncIteration
        result = await taken if isinstance(taken, asyncio.Task) else taken
        self._room.release()
        if isinstance(result, Exception):
            raise result
        return result

    async def _read(self) -> None:
        try:
            async with aclosing(self._chunks) as chunks:
                await self._room.acquire()
                async for chunk in chunks:
                    self._results.put_nowait(self._start(chunk))
                    await self._room.acquire()
        except Exception as error:  # noqa: BLE001 - `__anext__` raises it
            self._results.put_nowait(error)
        else:
            self._results.put_nowait(None)

    def _start(self, chunk: Chunk) -> "asyncio.Task[ChunkResult | Exception]":
        task = self._tasks.create_task(self._settle(chunk))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def _settle(self, chunk: Chunk) -> ChunkResult | Exception:
        try:
            return await self._answer(chunk)
        except Exception as error:  # noqa: BLE001 - as above
            return error
