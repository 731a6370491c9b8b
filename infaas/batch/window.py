"""A bounded number of chunks in flight, with results in the order of the chunks.

    source -> reader -> (at most `in_flight` chunks in progress or finished) -> results in the order of the chunks

The bound covers all chunks that were read and whose results were not yet taken, so it also bounds the reorder buffer.
While the oldest chunk is in progress, later ones finish and wait for it, and no further chunk is read.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

from infaas.batch.rows import Chunk, ChunkResult

Answer = Callable[[Chunk], Awaitable[ChunkResult]]


class AnswersInOrder:
    """Results of chunks in order, or the first error; an async context manager and iterator.

    Args:
        chunks: read no faster than results are taken.
        answer: queries one chunk.
        in_flight: maximum number of chunks in flight.
    """

    def __init__(self, chunks: AsyncGenerator[Chunk], answer: Answer, in_flight: int) -> None:
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
