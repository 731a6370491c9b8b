"""Tests of consumer groups: members share topics, and a killed member returns or is replaced."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from broker.delivery.assignment import read_dealt
from broker.delivery.consumer import Consumer
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Producer
from schemas.errors import OperatorError
from tests.load import Pace
from tests.processes import environment
from tests.waiting import PATIENCE_S, until

MEMBER = Path(__file__).parent / "member.py"
LONG_SESSION_S = 18.0
BEFORE_IT_ENDS_S = 10.0


@asynccontextmanager
async def traffic(kafka: KafkaSettings, topic: str) -> AsyncGenerator[None]:
    """Write records to the four partitions continuously while the context is open."""

    async def feed(producer: Producer) -> None:
        async for _ in Pace(50):
            for partition in range(4):
                await producer.send_and_wait(topic, b"x", partition=partition)

    async with Producer(kafka, "test") as producer, asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed(producer))
        try:
            yield
        finally:
            feeding.cancel()


class Process:
    """Group member in a separate process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.has: set[int] = set()

    async def up(self) -> None:
        """Wait until the member is about to join, which takes long on a busy machine."""
        assert await self._line() == "up"

    async def gets(self, partitions: set[int], within_s: float = PATIENCE_S) -> None:
        """Wait until the member has read from all these partitions."""
        async with asyncio.timeout(within_s):
            while not partitions <= self.has:
                await self._hear()

    async def gets_some(self, count: int) -> None:
        """Wait until the member has read from `count` partitions."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.has) < count:
                await self._hear()

    async def hear(self) -> None:
        """Record the partitions that the member reads, until cancelled."""
        while True:
            await self._hear()

    async def _hear(self) -> None:
        self.has.add(int((await self._line()).split()[1]))

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the member has died"
        return line.decode().strip()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()


@asynccontextmanager
async def member(kafka: KafkaSettings, name: str, topic: str, *, holds: bool = False) -> AsyncGenerator[Process]:
    """Run a member of the group named like the topic; with `holds`, it finishes no record, so no partition moves."""
    env = {
        "PYTHONPATH": str(Path.cwd()),
        "INFAAS_KAFKA": kafka.bootstrap,
        "INFAAS_KAFKA_SESSION_TIMEOUT_MS": str(kafka.session_timeout_ms),
    } | ({"TEST_HOLDS": "1"} if holds else {})
    process = Process(
        await asyncio.create_subprocess_exec(
            *(sys.executable, str(MEMBER), topic, name, topic),
            env=environment(env),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    )
    try:
        await process.up()
        yield process
    finally:
        await process.kill()


async def read_forever(consumer: Consumer, seen: set[tuple[str, int]]) -> None:
    while True:
        for record in await consumer.poll():
            seen.add((record.topic, record.partition))
            consumer.done(record)


async def test_killed_member_regains_partitions_or_is_replaced(kafka: KafkaSettings, topic: str) -> None:
    long = kafka.model_copy(update={"session_timeout_ms": int(LONG_SESSION_S * 1000)})
    async with traffic(kafka, topic), member(kafka, "one", topic) as one:
        await one.gets({0, 1, 2, 3})
        async with member(long, "two", topic) as two:
            await two.gets_some(2)
            its = set(two.has)
        async with member(long, "two", topic) as two:
            await two.gets(its, BEFORE_IT_ENDS_S)
            await one.kill()
            await two.gets({0, 1, 2, 3})


async def dealt_to_members(kafka: KafkaSettings, group: str) -> tuple[str, list[int]]:
    """Return the state of a group and the sorted partition counts of its members."""
    async with open_admin(kafka) as admin:
        described: Any = await admin.describe_consumer_groups([group])
    _error, _name, state, _type, _protocol, members, *_ = described[0].groups[0]
    return state, sorted(len(read_dealt(member[-1])[0]) for member in members)


async def test_members_killed_during_rebalance_read_all_partitions(kafka: KafkaSettings, topic: str) -> None:
    long = kafka.model_copy(update={"session_timeout_ms": int(3000 * PATIENCE_S)})  # too long to trigger the recovery

    async def half_moved() -> bool:
        return await dealt_to_members(kafka, topic) == ("Stable", [0, 2])

    async with traffic(kafka, topic):
        async with member(long, "one", topic, holds=True) as one:
            await one.gets({0, 1, 2, 3})
            async with member(long, "two", topic, holds=True) as two:
                await until(half_moved)
                await asyncio.gather(one.kill(), two.kill())
        async with member(long, "one", topic) as one, member(long, "two", topic) as two, asyncio.TaskGroup() as tasks:
            hearing = [tasks.create_task(each.hear()) for each in (one, two)]
            await until(lambda: one.has | two.has == {0, 1, 2, 3} and two.has)
            for task in hearing:
                task.cancel()


async def test_older_member_with_same_instance_id_is_refused(kafka: KafkaSettings, topic: str) -> None:
    async with Consumer(kafka, "older", group=topic, instance_id="one") as older, asyncio.TaskGroup() as tasks:
        await older.subscribe([topic])
        polling = tasks.create_task(refused(older))
        await until(lambda: len(older.reading) == 4)
        async with Consumer(kafka, "newer", group=topic, instance_id="one") as newer:
            await newer.subscribe([topic])
            await until(lambda: len(newer.reading) == 4)
            assert "change its instance id" in await polling
            assert not older.reading
            assert (await dealt_to_members(kafka, topic))[1] == [4], "the one that was refused is gone for good"


async def refused(consumer: Consumer) -> str:
    with pytest.raises(OperatorError) as error:
        await read_forever(consumer, set())
    return str(error.value)


async def test_leaving_member_is_replaced_at_once(kafka: KafkaSettings, topic: str) -> None:
    seen: set[tuple[str, int]] = set()
    everything = {(topic, partition) for partition in range(4)}
    async with (
        traffic(kafka, topic),
        asyncio.TaskGroup() as tasks,
        Consumer(kafka, "stays", group=topic, instance_id="stays") as stays,
    ):
        await stays.subscribe([topic])
        reading = tasks.create_task(read_forever(stays, seen))
        await until(lambda: seen == everything)
        async with Consumer(kafka, "leaves", group=topic, instance_id="leaves") as leaves:
            others: set[tuple[str, int]] = set()
            await leaves.subscribe([topic])
            helping = tasks.create_task(read_forever(leaves, others))
            await until(lambda: len(others) == 2)
            helping.cancel()
        assert len((await dealt_to_members(kafka, topic))[1]) == 1
        seen.clear()
        await until(lambda: seen == everything)
        reading.cancel()


async def test_subscribe_to_more_topics_loses_and_repeats_nothing(kafka: KafkaSettings, topic: str) -> None:
    more = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(more, 2)])
    read: list[tuple[str, int, int]] = []

    async def keep_reading(consumer: Consumer) -> None:
        while True:
            for record in await consumer.poll():
                read.append((record.topic, record.partition, record.offset))
                consumer.done(record)

    async with (
        Producer(kafka, "test") as producer,
        Consumer(kafka, "test", group=topic, instance_id="one") as consumer,
        asyncio.TaskGroup() as tasks,
    ):
        await consumer.subscribe([topic])
        reading = tasks.create_task(keep_reading(consumer))
        wanted: set[tuple[str, int, int]] = set()
        for number in range(40):
            ack = await producer.send_and_wait(topic, b"x", partition=number % 4)
            wanted.add((ack.topic, ack.partition, ack.offset))
            if number == 20:
                await consumer.subscribe([topic, more])
        for number in range(10):
            ack = await producer.send_and_wait(more, b"x", partition=number % 2)
            wanted.add((ack.topic, ack.partition, ack.offset))
        await until(lambda: wanted <= set(read))
        reading.cancel()
    assert len(read) == len(wanted), "settled before the change, so nothing came twice"
