"""Tests of `InFlightLimit`: senders get room in turn, a cancelled waiter loses none, and each record ends once."""

import asyncio
from collections.abc import Sequence

import pytest

from broker.kafka.types import KafkaError
from broker.producing.records import Ack, BatchedAck, InFlightLimit, OnAck, PendingRecord


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


def pending(limit: InFlightLimit, on_ack: OnAck) -> PendingRecord:
    record = PendingRecord(b"v", None, [], 0, 1.0, on_ack)
    assert limit.try_take(record.size)
    return record


def test_in_flight_limit_acknowledges_batch_by_sink() -> None:
    limit = InFlightLimit(100, 100_000)
    taken: list[tuple[str, list[object], int | str]] = []

    def place(outcome: Ack | KafkaError) -> int | str:
        return outcome.offset if isinstance(outcome, Ack) else str(outcome)

    def ours(batched: Sequence[BatchedAck], outcome: Ack | KafkaError) -> None:
        taken.append(("ours", [*batched], place(outcome)))
        raise ValueError("a defect of a caller must not affect others")

    def theirs(batched: Sequence[BatchedAck], outcome: Ack | KafkaError) -> None:
        taken.append(("theirs", [*batched], place(outcome)))

    def alone(outcome: Ack | KafkaError) -> None:
        taken.append(("alone", [], place(outcome)))

    a, b, c, d, late = BatchedAck(ours), BatchedAck(ours), BatchedAck(theirs), BatchedAck(ours), BatchedAck(ours)
    records = [pending(limit, on_ack) for on_ack in (a, b, alone, c, late, d)]
    limit.settle(records[4], KafkaError("late"))
    assert taken == [("ours", [late], "KafkaError: late")]
    taken.clear()
    limit.acknowledge(records, Ack("t", 0, 7))
    assert taken == [("ours", [a, b], 7), ("alone", [], 9), ("theirs", [c], 10), ("ours", [d], 12)]
    assert (limit.records, limit.bytes) == (0, 0)
    limit.acknowledge(records, Ack("t", 0, 7))
    assert len(taken) == 4, "each record ends once"
    known_only = pending(limit, BatchedAck(theirs))
    limit.acknowledge([known_only], Ack("t", 0, -1))
    assert taken[-1][2] == -1
