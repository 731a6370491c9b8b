"""Rows that a program has, or will have, as a source of chunks: whatever it can loop over, in memory or not.

A chunk is sent when it is full, or a moment after its first row where rows come one by one: nobody waits for others.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from infaas.batch.rows import Chunk, Marks
from infaas.batch.sources.chunking import CHUNK_BYTES, ReadRow, chunk_of, size_of
from infaas.client.client import as_array
from schemas.errors import InvalidRequest
from schemas.tensors import Array

InputRow: TypeAlias = Mapping[str, ArrayLike]
"""The inputs of a row by their names, without the axis of the rows."""


class RowStream:
    """An async context manager; `chunks` may be asked for once.

    Args:
        rows: read no faster than chunks are taken.
        size: rows of a chunk at most.
        linger_s: seconds after which a chunk goes though it is not full.
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
        """Make chunks of the rows; what reading them raises is raised here."""
        while rows := await self._take():
            yield chunk_of(rows)
        if self._error is not None:
            raise self._error

    async def _take(self) -> list[ReadRow]:
        """Rows of the next chunk; none at the end."""
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
        except Exception as error:  # noqa: BLE001 - it is raised where rows are taken
            self._error = error
        await self._queue.put(None)


def _read_row(number: int, row: InputRow) -> ReadRow:
    end: Marks = {"row": number + 1}
    try:
        inputs = {name: _with_row_axis(value) for name, value in row.items()}
    except (ValueError, TypeError) as error:
        return ReadRow(number, InvalidRequest(f"no array: {error}"), 0, end)
    return ReadRow(number, inputs, size_of(inputs), end)


def _with_row_axis(value: ArrayLike) -> Array:
    array = as_array(value)
    return array if isinstance(value, (str, bytes)) else array[np.newaxis]
