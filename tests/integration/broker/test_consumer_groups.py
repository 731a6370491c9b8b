"""Members of a group share its topics; whoever is killed is replaced, or gets its partitions back."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from broker.delivery.consumer import Consumer
from broker.producer import Producer
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics

MEMBER = Path(__file__).parent / "member.py"
REPLACED_S = 6.0 + 30.0
"""The session timeout, and what a shared machine adds."""


@asynccontextmanager
async def traffic(kafka: KafkaSettings, topic: str) -> AsyncGenerator[None]:
    """A record for each of the four partitions, again and again."""

    async def feed(producer: Producer) -> None:
        while True:
            for partition in range(4):
                await producer.send_and_wait(topic, b"x", partition=partition)
            await asyncio.sleep(0.02)

    async with Producer(kafka, "test") as producer, asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(feed(producer))
        try:
            yield
        finally:
            feeding.cancel()


class Process:
    """A member in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.has: set[int] = set()

    async def up(self) -> None:
        """Wait until it is about to join: it takes its time to start where others are busy."""
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"up\n"

    async def gets(self, partitions: set[int], within_s: float) -> float:
        """Seconds until it has read from all of these."""
        began = time.monotonic()
        async with asyncio.timeout(within_s):
            while not partitions <= self.has:
                await self._hear()
        return time.monotonic() - began

    async def gets_some(self, count: int, within_s: float) -> None:
        """Wait until it has read from so many partitions."""
        async with asyncio.timeout(within_s):
            while len(self.has) < count:
                await self._hear()

    async def _hear(self) -> None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the member has died"
        self.has.add(int(line.split()[1]))

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()


@asynccontextmanager
async def member(kafka: KafkaSettings, group: str, name: str, topic: str) -> AsyncGenerator[Process]:
    command = [sys.executable, str(MEMBER), kafka.bootstrap, str(kafka.fetch_max_wait_ms), group, name, topic]
    env = os.environ | {"PYTHONPATH": str(Path.cwd())}
    process = Process(
        await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=env
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


async def until(seen: set[tuple[str, int]], wanted: set[tuple[str, int]], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not wanted <= seen:  # noqa: ASYNC110 - what is read, is read in another task
            await asyncio.sleep(0.02)


async def test_a_killed_member_gets_its_partitions_back_or_is_replaced(kafka: KafkaSettings, topic: str) -> None:
    async with traffic(kafka, topic), member(kafka, topic, "one", topic) as one:
        await one.gets({0, 1, 2, 3}, within_s=60)
        async with member(kafka, topic, "two", topic) as two:
            await two.gets_some(2, within_s=60)
            its = set(two.has)
            await two.kill()
        # At once: well within the session timeout.
        async with member(kafka, topic, "two", topic) as two:
            assert await two.gets(its, within_s=60) < 5
            await one.kill()
            await two.gets({0, 1, 2, 3}, within_s=REPLACED_S)


async def test_a_member_that_leaves_is_replaced_at_once(kafka: KafkaSettings, topic: str) -> None:
    seen: set[tuple[str, int]] = set()
    everything = {(topic, partition) for partition in range(4)}
    async with (
        traffic(kafka, topic),
        asyncio.TaskGroup() as tasks,
        Consumer(kafka, "stays", group=topic, instance_id="stays") as stays,
    ):
        await stays.subscribe([topic])
        reading = tasks.create_task(read_forever(stays, seen))
        await until(seen, everything, 60)
        async with Consumer(kafka, "leaves", group=topic, instance_id="leaves") as leaves:
            others: set[tuple[str, int]] = set()
            await leaves.subscribe([topic])
            helping = tasks.create_task(read_forever(leaves, others))
            async with asyncio.timeout(60):
                while len(others) < 2:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
            helping.cancel()
        seen.clear()
        await until(seen, everything, 5.5)  # the session timeout is 6 s
        reading.cancel()


async def test_subscribing_to_more_topics_loses_nothing(kafka: KafkaSettings, topic: str) -> None:
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
        async with asyncio.timeout(60):
            while not wanted <= set(read):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
        reading.cancel()
    assert len(read) == len(wanted), "settled before the change, so nothing came twice"
