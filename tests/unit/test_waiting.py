"""Tests of `tests.waiting`."""

import asyncio

import pytest

from tests.waiting import read_until, until


async def test_until_returns_value_of_sync_and_async_conditions() -> None:
    numbers = iter(range(10))

    async def next_one() -> int:
        return next(numbers)

    assert await until(lambda: next(numbers)) == 1
    assert await until(next_one) == 2
    assert await read_until(next_one, lambda number: number > 4) == 5


async def never_is_anything_found() -> list[int]:
    return []


async def test_until_timeout_names_condition_and_last_value() -> None:
    with pytest.raises(AssertionError, match=r"never is anything found; last seen: \[\]"):
        await until(never_is_anything_found, 0.01)
    with pytest.raises(AssertionError, match=r"lambda: PI > 4"):
        await until(lambda: PI > 4, 0.01)
    with pytest.raises(AssertionError, match="last seen: None"):
        await until(asyncio.Event().wait, 0.01)


async def test_until_raises_error_of_condition() -> None:
    async def times_out() -> bool:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await until(times_out)


PI = 3.14
