"""Tests of `FetchBuffer`: bounded buffers of consumers that share a fetcher."""

import asyncio

from aiokafka import TopicPartition

from broker.fetch.fetch_buffer import FetchBuffer
from broker.fetch.fetched_partition import FetchedPartition, Losses
from tests.unit.broker.test_record_batches import batch_of, of_producer

KEY, OTHER = TopicPartition("a", 0), TopicPartition("b", 0)
LARGE = b"x" * (1024 * 1024)


class ReadBuffer(FetchBuffer):
    """Buffer with the partitions that its fetcher reads, which learns of them by changes alone."""

    def __init__(self) -> None:
        self.looks: list[FetchBuffer] = []
        self.topics: list[str] = []
        self._read: dict[FetchedPartition, None] = {}
        super().__init__(Losses(), self.looks.append, self.topics.append)

    def to_read(self) -> list[FetchedPartition]:
        """Return the partitions that are read, after looking at the buffer if it has asked for it."""
        for state in self.changed() if self.looks else ():
            self._read.pop(state, None)
            if self.reads(state) and self.has_room_for(state):
                self._read[state] = None
        self.looks.clear()
        return list(self._read)


def fill(buffer: ReadBuffer, key: TopicPartition, values: list[bytes]) -> None:
    """Add the records of a fetch to the partition."""
    (state,) = [state for state in buffer.to_read() if state.key == key]
    data = batch_of(values, state.position)
    assert state.add(data, state.position + len(values))
    buffer.came(state)
    buffer.note(state)


async def open_buffer() -> ReadBuffer:
    buffer = ReadBuffer()
    for key in (KEY, OTHER):
        assert await buffer.begin(key, 0) == 0
    assert buffer.topics == ["a", "b"]
    assert [state.key for state in buffer.to_read()] == [KEY, OTHER]
    return buffer


async def test_fetch_buffer_is_being_taken_until_it_is_empty() -> None:
    buffer = await open_buffer()
    assert (buffer.is_empty, buffer.is_being_taken) == (True, False)
    fill(buffer, KEY, [b"1", b"2"])
    assert (buffer.is_empty, buffer.is_being_taken) == (False, True)
    buffer.looks.clear()
    assert len((await buffer.poll(1))[KEY].records) == 1
    assert (buffer.is_being_taken, buffer.looks) == (True, [])
    assert len((await buffer.poll())[KEY].records) == 1
    assert (buffer.is_being_taken, buffer.looks) == (False, [buffer])


async def test_fetch_buffer_pause_lasts_until_next_poll() -> None:
    buffer = await open_buffer()
    fill(buffer, KEY, [b"1", b"2"])
    buffer.looks.clear()
    buffer.pause()
    assert (buffer.is_empty, buffer.is_being_taken, buffer.looks) == (False, False, [buffer])
    await buffer.poll(1)
    assert buffer.is_being_taken


async def test_fetch_buffer_holds_few_records_while_paused() -> None:
    buffer = await open_buffer()
    buffer.pause()
    fill(buffer, KEY, [LARGE])
    assert buffer.to_read() == []
    await buffer.poll(1)
    assert len(buffer.to_read()) == 2


async def test_fetch_buffer_reads_nothing_while_full() -> None:
    buffer = await open_buffer()
    for _ in range(4):
        assert len(buffer.to_read()) == 2
        fill(buffer, KEY, [LARGE])
    assert buffer.to_read() == []
    await buffer.poll(2)
    assert len(buffer.to_read()) == 2


async def test_fetch_buffer_names_partition_that_is_read_again_after_damage() -> None:
    buffer = await open_buffer()
    (state,) = [state for state in buffer.to_read() if state.key == KEY]
    damaged = bytearray(batch_of([b"1", b"2"], 0))
    damaged[-1] ^= 1
    assert state.add(bytes(damaged), 2)
    buffer.came(state)
    buffer.note(state)
    assert buffer.changed() == [state]
    assert state.position == 2
    waiting = asyncio.ensure_future(buffer.poll())
    await asyncio.sleep(0)
    assert (state.position, buffer.changed()) == (0, [state])
    waiting.cancel()


async def test_fetch_buffer_names_all_partitions_if_leaders_change() -> None:
    buffer = await open_buffer()
    assert buffer.changed() == []
    buffer.note_all()
    assert [state.key for state in buffer.changed()] == [KEY, OTHER]


async def test_fetch_buffer_holds_few_records_of_omitted_topic() -> None:
    buffer = await open_buffer()
    buffer.leave_out([KEY.topic])
    fill(buffer, KEY, [LARGE])
    assert buffer.is_empty
    assert [state.key for state in buffer.to_read()] == [OTHER]
    waiting = asyncio.ensure_future(buffer.poll())
    await asyncio.sleep(0)
    buffer.leave_out([])
    assert set(await waiting) == {KEY}
    assert len(buffer.to_read()) == 2


async def test_fetch_buffer_stop_drops_fetched_records() -> None:
    buffer = await open_buffer()
    (state,) = [state for state in buffer.to_read() if state.key == KEY]
    fill(buffer, KEY, [b"1"])
    buffer.stop([KEY])
    assert not buffer.reads(state)
    assert not buffer.is_being_taken
    fill(buffer, OTHER, [b"2"])
    assert set(await buffer.poll()) == {OTHER}


async def test_poll_exceeds_max_bytes_by_last_record_only() -> None:
    buffer = await open_buffer()
    fill(buffer, KEY, [b"x" * 1000] * 3)
    fill(buffer, OTHER, [b"x" * 1000] * 3)
    first = await buffer.poll(10, 2000)
    assert [len(taken.records) for taken in first.values()] == [2]
    second = await buffer.poll(10, 1)
    assert [(key, len(taken.records)) for key, taken in second.items()] == [(OTHER, 1)]
    assert all(size > 1000 for taken in first.values() for size in taken.sizes.values())


async def test_poll_names_partition_that_advanced_without_records() -> None:
    buffer = await open_buffer()
    (state,) = [state for state in buffer.to_read() if state.key == KEY]
    assert state.add(of_producer(7, 0, 0x30), 1)
    buffer.came(state)
    assert {key: taken.records for key, taken in (await buffer.poll()).items()} == {KEY: []}
    assert buffer.taken(KEY) == 1


async def test_fetch_buffer_bounds_omitted_partitions_together() -> None:
    buffer = await open_buffer()
    keys = [TopicPartition("offline", number) for number in range(20)]
    for key in keys:
        await buffer.begin(key, 0)
    buffer.leave_out(["offline"])
    fetched = 0
    while left_out := [state for state in buffer.to_read() if state.key in keys]:
        fill(buffer, left_out[0].key, [LARGE])
        fetched += 1
    assert fetched == 8
    assert {state.key for state in buffer.to_read()} == {KEY, OTHER}
