"""Consumers that share a fetcher: what is fetched for one, and who waits for whom."""

import asyncio

from aiokafka import TopicPartition

from broker.fetch.fetch_buffer import FetchBuffer
from broker.fetch.losses import Losses
from tests.unit.broker.test_record_batches import batch_of

KEY, OTHER = TopicPartition("a", 0), TopicPartition("b", 0)
LARGE = b"x" * (1024 * 1024)


def fill(buffer: FetchBuffer, key: TopicPartition, values: list[bytes]) -> None:
    """What a fetch of the partition brings."""
    (state,) = [state for state in buffer.to_read() if state.key == key]
    data = batch_of(values, state.position)
    assert state.add(data, state.position + len(values))
    buffer.came(state)


async def open_buffer() -> tuple[FetchBuffer, list[None]]:
    looks: list[None] = []
    topics: list[str] = []
    buffer = FetchBuffer(Losses(), lambda: looks.append(None), topics.append)
    for key in (KEY, OTHER):
        assert await buffer.begin(key, 0) == 0
    assert topics == ["a", "b"]
    return buffer, looks


async def test_what_came_is_waited_for_until_it_is_taken() -> None:
    buffer, looks = await open_buffer()
    assert (buffer.is_empty, buffer.is_being_taken) == (True, False)
    fill(buffer, KEY, [b"1", b"2"])
    assert (buffer.is_empty, buffer.is_being_taken) == (False, True)
    looks.clear()
    assert len((await buffer.poll(1))[KEY]) == 1
    assert (buffer.is_being_taken, looks) == (True, [])
    assert len((await buffer.poll())[KEY]) == 1
    assert (buffer.is_being_taken, looks) == (False, [None])


async def test_nobody_waits_for_one_that_pauses_until_it_polls_again() -> None:
    buffer, looks = await open_buffer()
    fill(buffer, KEY, [b"1", b"2"])
    looks.clear()
    buffer.pause()
    assert (buffer.is_empty, buffer.is_being_taken, looks) == (False, False, [None])
    await buffer.poll(1)
    assert buffer.is_being_taken


async def test_of_one_that_pauses_little_is_fetched() -> None:
    buffer, _ = await open_buffer()
    buffer.pause()
    fill(buffer, KEY, [LARGE])
    assert buffer.to_read() == []
    await buffer.poll(1)
    assert len(buffer.to_read()) == 2


async def test_a_full_one_is_left_out_until_there_is_room() -> None:
    buffer, _ = await open_buffer()
    for _ in range(4):
        assert len(buffer.to_read()) == len(buffer) == 2
        fill(buffer, KEY, [LARGE])
    assert buffer.to_read() == []
    await buffer.poll(2)
    assert len(buffer.to_read()) == 2


async def test_of_topics_that_are_left_out_little_is_fetched() -> None:
    buffer, _ = await open_buffer()
    buffer.leave_out([KEY.topic])
    fill(buffer, KEY, [LARGE])
    assert buffer.is_empty
    assert [state.key for state in buffer.to_read()] == [OTHER]
    waiting = asyncio.ensure_future(buffer.poll())
    await asyncio.sleep(0)
    buffer.leave_out([])
    assert set(await waiting) == {KEY}
    assert len(buffer.to_read()) == 2


async def test_what_is_no_longer_read_reaches_nobody() -> None:
    buffer, _ = await open_buffer()
    (state,) = [state for state in buffer.to_read() if state.key == KEY]
    fill(buffer, KEY, [b"1"])
    buffer.stop([KEY])
    assert not buffer.reads(state)
    assert not buffer.is_being_taken
    fill(buffer, OTHER, [b"2"])
    assert set(await buffer.poll()) == {OTHER}
