"""Inference over all rows of an iterable, with answers in the same order and bounded memory.

    async with InfaasClient(kafka="127.0.0.1:9092") as client:
        async for row in infer_rows(client, "sentiment-text", rows, min_accuracy=0.8):
            print(row.number, row.outputs["label"] if row.error is None else row.error)

Queries are offline unless `mode` says otherwise: they are computed when workers are idle.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeAlias, Unpack

import numpy as np
from numpy.typing import ArrayLike

from infaas.batch.asker import AnswersInOrder, ChunkAsker, asking
from infaas.batch.limits import IN_FLIGHT
from infaas.batch.rows import CHUNK_BYTES, Chunk, ChunkResult, ReadRow, SourcePosition, chunk_of, size_of
from infaas.client.client import InfaasClient, QueryOptions, as_array
from schemas.errors import InvalidRequest, QueryError, query_error
from schemas.tensors import Array

InputRow: TypeAlias = Mapping[str, ArrayLike]
"""Inputs of a row by name, without the row axis."""


class RowStream:
    """Source of chunks; an async context manager. `chunks` may be called once.

    Args:
        rows: read no faster than chunks are taken.
        size: maximum number of rows of a chunk.
        linger_s: seconds after which an incomplete chunk is sent.
    """

    def __init__(self, rows: Iterable[InputRow] | AsyncIterable[InputRow], size: int, linger_s: float) -> None:
        self._rows = rows
        self._size = size
        self._linger_s = linger_s
        self._queue: asyncio.Queue[InputRow | None] = asyncio.Queue(size)
        self._tasks = asyncio.TaskGroup()
        self._number = 0
        self._ended = False
        self._error: Exception | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._reader = self._tasks.create_task(self._read(), name="row stream")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def chunks(self) -> AsyncGenerator[Chunk]:
        """Yield chunks of the rows; an error of reading rows is raised here, after the last chunk."""
        while rows := await self._take():
            yield chunk_of(rows)
        if self._error is not None:
            raise self._error

    async def _take(self) -> list[ReadRow]:
        """Return the rows of the next chunk; an empty list at the end."""
        rows: list[ReadRow] = []
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                while len(rows) < self._size and size < CHUNK_BYTES and not self._ended:
                    item = await self._queue.get()
                    if item is None:
                        self._ended = True
                        break
                    if not rows:
                        limit.reschedule(asyncio.get_running_loop().time() + self._linger_s)
                    rows.append(_read_row(self._number, item))
                    self._number += 1
                    size += rows[-1].size
        return rows

    async def _read(self) -> None:
        try:
            if isinstance(self._rows, AsyncIterable):
                async for row in self._rows:
                    await self._queue.put(row)
            else:
                for row in self._rows:
                    await self._queue.put(row)
        except Exception as error:  # noqa: BLE001 - `chunks` raises it
            self._error = error
        await self._queue.put(None)


def _read_row(number: int, row: InputRow) -> ReadRow:
    end: SourcePosition = {"row": number + 1}
    try:
        inputs = {name: _with_row_axis(value) for name, value in row.items()}
    except (ValueError, TypeError) as error:
        return ReadRow(number, InvalidRequest(f"no array: {error}"), 0, end)
    return ReadRow(number, inputs, size_of(inputs), end)


def _with_row_axis(value: ArrayLike) -> Array:
    array = as_array(value)
    return array if isinstance(value, (str, bytes)) else array[np.newaxis]


ROWS: Final = 256
LINGER_S: Final = 0.05


class RowAnswer(NamedTuple):
    """Result of one row."""

    number: int
    """Index of the row, from 0."""
    outputs: Mapping[str, Any]
    """Values of this row by output; empty if the row failed."""
    variant: str = ""
    error: QueryError | None = None
    """Reason why this row failed; None if it was answered."""


async def infer_rows(
    client: InfaasClient,
    task: str,
    rows: Iterable[InputRow] | AsyncIterable[InputRow],
    *,
    rows_per_query: int = ROWS,
    in_flight: int = IN_FLIGHT,
    linger_s: float = LINGER_S,
    **options: Unpack[QueryOptions],
) -> AsyncGenerator[RowAnswer]:
    """Query all rows and yield their results in order.

    Rows are read no faster than results are consumed: at most `in_flight` queries of `rows_per_query` rows are held. If
    rows arrive one by one, a query waits `linger_s` for more.

    Raises:
        QueryError: an error that affects all rows alike.
        OperatorError: nothing was answered for `PATIENCE_S`.
    """
    if "query_id" in options:
        raise InvalidRequest("infer_rows sends many queries: they cannot share one query_id")
    asker = ChunkAsker(asking(client, task, options))
    async with (
        RowStream(rows, rows_per_query, linger_s) as stream,
        AnswersInOrder(stream.chunks(), asker.answer, in_flight) as results,
    ):
        async for result in results:
            for answer in _answers(result):
                yield answer


def _answers(result: ChunkResult) -> list[RowAnswer]:
    answers = [RowAnswer(row.number, row.outputs, row.variant) for row in result.in_order()]
    if result.failed:
        failed = (RowAnswer(row.number, {}, error=query_error(row.code, row.reason)) for row in result.failed)
        answers = sorted([*answers, *failed], key=lambda answer: answer.number)
    return answers
