"""Source of chunks from an iterable of rows in memory or an asynchronous one.

A chunk is sent when it is full, or `linger_s` after its first row was read, so that slow streams are not delayed.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from infaas.batch.rows import Chunk, SourcePosition
from infaas.batch.sources.chunking import CHUNK_BYTES, ReadRow, chunk_of, size_of
from infaas.client.client import as_array
from schemas.errors import InvalidRequest
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
