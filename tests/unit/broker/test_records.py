"""Tests of `InFlightLimit`: senders get room in turn, and a cancelled waiter loses none."""

import asyncio

import pytest

from broker.producing.records import InFlightLimit


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def take(limit: InFlightLimit, size: int) -> None:
    if not limit.try_take(size):
        await limit.take_in_turn(size)


@pytest.mark.parametrize(("records", "size"), [(2, 1), (1000, 500)], ids=["records", "bytes"])
async def test_in_flight_limit_admits_waiters_in_turn(records: int, size: int) -> None:
    limit = InFlightLimit(records, 1000)
    taken = list[int]()

    async def worker(number: int) -> None:
        await take(limit, size)
        taken.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(worker(number))
        for expected in (2, 3, 4, 5):
            await settle()
            assert taken == list(range(expected))
            limit.release(1, size)


async def test_in_flight_limit_admits_oversized_record_alone() -> None:
    limit = InFlightLimit(10, 1000)
    await take(limit, 5000)
    assert not limit.try_take(1)
    limit.release(1, 5000)
    await limit.idle()
    assert limit.try_take(1)


async def test_in_flight_limit_keeps_room_of_cancelled_waiter() -> None:
    limit = InFlightLimit(1, 1000)
    await take(limit, 1)
    leaving, staying = asyncio.ensure_future(take(limit, 1)), asyncio.ensure_future(take(limit, 1))
    await settle()
    limit.release(1, 1)  # gives the turn to the first waiter, which is cancelled before it runs
    leaving.cancel()
    await asyncio.wait({staying}, timeout=10)
    assert staying.done()
    assert leaving.cancelled()
    waiting = asyncio.ensure_future(take(limit, 1))
    await settle()
    waiting.cancel()
    await asyncio.wait({waiting})
    limit.release(1, 1)
    assert limit.try_take(1)
