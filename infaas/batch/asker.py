"""Queries for the rows of a chunk, with retries, and a search for the failing rows of a failed query.

Rules.
* Retryable errors (time, capacity, an unavailable service) are retried with exponential back-off. The job ends only
  after `patience_s` without any answer; a later run resumes it.
* If a query fails because of its rows (invalid rows, or the model fails on them), its halves are sent separately, down
  to the failing row. All other rows are answered.
* Errors that affect all rows alike (unknown task, unsatisfiable needs) end the job.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from infaas.batch.rows import Chunk, ChunkResult, FailedRow, InputRows, OutputRows, failed_row
from infaas.client.client import Answer, InfaasClient, QueryOptions
from process.backoff import Backoff
from process.retry import retry_until_reachable
from schemas.errors import InvalidRequest, ModelFailed, OperatorError, QueryError
from schemas.needs import Mode
from schemas.tensors import Array

_ANSWER_S: Final = 600.0
"""Timeout of a query in seconds before it is sent again, since its answer may have been lost."""
_BACKOFF: Final = Backoff(first_s=0.15, longest_s=4.0, jitter=0.5)
PATIENCE_S: Final = 1800.0
"""Seconds without any answer after which a batch job ends."""
_BLAMES_ROWS: Final = (InvalidRequest, ModelFailed)


QueryFunction: TypeAlias = Callable[[Mapping[str, Array]], Awaitable[Answer]]
"""Function that sends the inputs of one query and waits for its answer."""


def asking(client: InfaasClient, task: str, options: QueryOptions) -> QueryFunction:
    """Return a function that sends queries to a task; they are offline unless `options` sets another mode."""
    complete: QueryOptions = {"timeout_s": _ANSWER_S, "mode": Mode.OFFLINE, **options}

    async def ask(inputs: Mapping[str, Array]) -> Answer:
        return await client.infer(task, inputs, **complete)

    return ask


class Trouble(msgspec.Struct, frozen=True):
    """Reason why queries are being retried."""

    reason: str
    since_s: float
    """Seconds since the last answer."""


class _Part(msgspec.Struct, frozen=True):
    """Results of some rows of a chunk."""

    answered: tuple[OutputRows, ...] = ()
    failed: tuple[FailedRow, ...] = ()
    cost: float = 0.0


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
        parts = [task.result() for task in asked]
        failed = sorted((*chunk.unreadable, *(row for part in parts for row in part.failed)))
        answered = tuple(rows for part in parts for rows in part.answered)
        return ChunkResult(answered, tuple(failed), chunk.end, sum(part.cost for part in parts))

    async def _ask_whole(self, rows: InputRows) -> _Part:
        try:
            answer = await self._ask_until_answered(rows)
        except _BLAMES_ROWS as error:
            return await self._find_to_blame(rows, error)
        outputs = OutputRows(rows.numbers, answer.outputs, rows.ids, answer.variant)
        return _Part((outputs,), (), (answer.cost or 0.0) / 1000)

    async def _find_to_blame(self, rows: InputRows, error: QueryError) -> _Part:
        if len(rows) == 1:
            return _Part(failed=(failed_row(int(rows.numbers[0]), error, rows.ids[0] if rows.ids else None),))
        middle = len(rows) // 2
        first = await self._ask_whole(rows.slice(0, middle))
        second = await self._ask_whole(rows.slice(middle, len(rows)))
        return _Part(first.answered + second.answered, first.failed + second.failed, first.cost + second.cost)

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


def _checked(answer: Answer, rows: InputRows) -> Answer:
    for name, array in answer.outputs.items():
        if array.ndim == 0 or len(array) != len(rows):
            raise ModelFailed(f"output {name} has shape {list(array.shape)} for {len(rows)} rows")
    return answer
