"""Tests of `RowStream`: chunks of the rows that a program yields."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from infaas.batch import row_answers
from infaas.batch.row_answers import RowStream


def rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"x": [number, 1.5], "text": f"row {number}"}


async def test_row_stream_fills_all_chunks_but_the_last() -> None:
    async with RowStream(rows(10), 4, 60.0) as stream:
        chunks = [chunk async for chunk in stream.chunks()]
    assert [chunk.size for chunk in chunks] == [4, 4, 2]
    assert chunks[1].rows[0].inputs["x"].tolist() == [[n, 1.5] for n in range(4, 8)]
    assert chunks[1].rows[0].inputs["text"].tolist() == [f"row {n}".encode() for n in range(4, 8)]
    assert chunks[-1].rows[0].numbers.tolist() == [8, 9]


async def test_row_stream_bounds_chunks_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_answers, "CHUNK_BYTES", 40)
    several = [{"text": "x" * 20}, {"text": b"x" * 20}, {"text": ["x" * 10, "x" * 30]}, {"x": np.array([1, None])}]
    async with RowStream(several, 100, 60.0) as stream:
        assert [chunk.size async for chunk in stream.chunks()] == [2, 1, 1]


async def test_row_stream_yields_partial_chunk_of_slow_rows() -> None:
    more = asyncio.Event()

    async def slowly() -> AsyncIterator[dict[str, Any]]:
        yield {"x": 0}
        yield {"x": 1}
        await more.wait()
        yield {"x": 2}

    async with RowStream(slowly(), 100, 0.01) as stream:
        chunks = stream.chunks()
        assert (await anext(chunks)).rows[0].numbers.tolist() == [0, 1]
        more.set()
        assert (await anext(chunks)).rows[0].numbers.tolist() == [2]
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)


async def test_row_stream_applies_backpressure() -> None:
    read = list[int]()

    async def counted() -> AsyncIterator[dict[str, Any]]:
        for number in range(1000):
            read.append(number)
            yield {"x": number}

    async with RowStream(counted(), 10, 60.0) as stream:
        await anext(stream.chunks())
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(read) <= 10 + 10 + 1


async def test_row_stream_yields_rows_before_an_error() -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"x": 0}
        raise RuntimeError("the disk is gone")

    async with RowStream(broken(), 10, 60.0) as stream:
        chunks = stream.chunks()
        assert (await anext(chunks)).size == 1
        with pytest.raises(RuntimeError, match="the disk is gone"):
            await anext(chunks)


async def test_row_stream_fails_only_malformed_row() -> None:
    async with RowStream([{"x": [1, 2]}, {"x": [[1], [2, 3]]}], 10, 60.0) as stream:
        chunk = await anext(stream.chunks())
    assert [row.number for row in chunk.unreadable] == [1]
    assert chunk.rows[0].numbers.tolist() == [0]


async def test_row_stream_separates_names_and_types() -> None:
    mixed = [
        *({"x": [1.5]}, {"y": [2.5]}, {"x": "a text"}, {"x": [3.5]}),
        *({"x": [1.5], "z": [1, 2]}, {"z": [1, 2], "x": [2.5]}),
    ]
    async with RowStream(mixed, 10, 60.0) as stream:
        chunk = await anext(stream.chunks())
    assert [rows.numbers.tolist() for rows in chunk.rows] == [[0, 3], [1], [2], [4, 5]]
