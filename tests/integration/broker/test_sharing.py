"""Tests of rebalancing under load: only moved partitions pause, and no record is lost or read twice."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.protocol.group import LeaveGroupRequest

from broker.delivery.consumer import Consumer, Record
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Producer
from tests.waiting import until

WAIT_S = 60


class Reader:
    """Group member that keeps the records it reads, and finishes them at once while `finishes` is true."""

    def __init__(self, consumer: Consumer, handed: list[tuple[str, TopicPartition, bytes]], name: str) -> None:
        self.consumer = consumer
        self.name = name
        self.finishes = True
        self.unfinished: list[Record] = []
        self._handed = handed

    async def read(self) -> None:
        while True:
            for record in await self.consumer.poll():
                self._handed.append((self.name, TopicPartition(record.topic, record.partition), record.value or b""))
                self.unfinished.append(record)
            if self.finishes:
                self.finish()

    def finish(self) -> None:
        self.finishes = True
        for record in self.unfinished:
            self.consumer.done(record)
        self.unfinished.clear()

    def has(self, partition: TopicPartition) -> bytes:
        """Return the value of the last record that the member read from a partition."""
        return next((value for who, of, value in reversed(self._handed) if who == self.name and of == partition), b"")


@asynccontextmanager
async def reader(
    kafka: KafkaSettings, topic: str, name: str, handed: list[tuple[str, TopicPartition, bytes]]
) -> AsyncGenerator[Reader]:
    async with Consumer(kafka, name, group=topic) as consumer, asyncio.TaskGroup() as tasks:
        await consumer.subscribe([topic])
        member = Reader(consumer, handed, name)
        reading = tasks.create_task(member.read())
        try:
            yield member
        finally:
            reading.cancel()


async def test_rebalance_drains_only_moved_partitions(
    kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.delivery.consumer.DRAIN_S", WAIT_S)
    handed: list[tuple[str, TopicPartition, bytes]] = []
    every = [TopicPartition(topic, number) for number in range(4)]

    async def write(producer: Producer, value: bytes) -> None:
        for partition in every:
            await producer.send_and_wait(topic, value, partition=partition.partition)

    async with Producer(kafka, "test") as producer, reader(kafka, topic, "stays", handed) as stays:
        stays.finishes = False
        await write(producer, b"first")
        await until(lambda: all(stays.has(partition) == b"first" for partition in every))
        async with reader(kafka, topic, "comes", handed) as comes:
            await until(lambda: len(stays.consumer.reading) == 2)
            kept = stays.consumer.reading
            await write(producer, b"second")
            await until(lambda: all(stays.has(partition) == b"second" for partition in kept))
            assert not comes.consumer.reading, "what moves is still being drained"
            await until(lambda: "2 partitions" in comes.consumer.problem)
            stays.finish()
            moved = set(every) - kept
            await until(lambda: all(comes.has(partition) == b"second" for partition in moved))
            assert comes.consumer.reading == moved
            await until(lambda: not comes.consumer.problem and not stays.consumer.problem)
        await write(producer, b"third")
        await until(lambda: all(stays.has(partition) == b"third" for partition in every))
    assert len(handed) == len({(partition, value) for _, partition, value in handed}) == 12


async def test_rebalance_hands_each_record_to_one_member(kafka: KafkaSettings) -> None:
    topic = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic, 6)])
    handed: list[tuple[str, TopicPartition, bytes]] = []
    written: set[bytes] = set()

    enough = asyncio.Event()

    async def flow(producer: Producer) -> None:
        while not enough.is_set():
            value = b"%d" % len(written)
            await producer.send_and_wait(topic, value, partition=len(written) % 6)
            written.add(value)

    async with Producer(kafka, "test") as producer, asyncio.TaskGroup() as tasks:
        flowing = tasks.create_task(flow(producer))
        async with reader(kafka, topic, "one", handed) as one:
            await until(lambda: len(one.consumer.reading) == 6)
            async with reader(kafka, topic, "two", handed) as two:
                await until(lambda: len(two.consumer.reading) == len(one.consumer.reading) == 3)
                async with reader(kafka, topic, "three", handed) as three:
                    await until(lambda: all(len(each.consumer.reading) == 2 for each in (one, two, three)))
                    await until(lambda: "three" in {who for who, _, _ in handed})
                await until(lambda: len(two.consumer.reading) == len(one.consumer.reading) == 3)
            await until(lambda: len(one.consumer.reading) == 6)
            enough.set()
            await flowing
            await until(lambda: written <= {value for _, _, value in handed})
    assert len(handed) == len(written), "settled at once, so nothing came twice"
    assert {who for who, _, _ in handed} == {"one", "two", "three"}
    for number in range(6):
        values = [int(value) for _, partition, value in handed if partition.partition == number]
        assert values == sorted(values), "no member is handed what comes after what another is yet to be handed"


async def test_expelled_member_rejoins_and_reads_on(kafka: KafkaSettings, topic: str) -> None:
    handed: list[tuple[str, TopicPartition, bytes]] = []
    every = [TopicPartition(topic, number) for number in range(4)]
    async with Producer(kafka, "test") as producer, reader(kafka, topic, "one", handed) as one:
        await until(lambda: len(one.consumer.reading) == 4)
        one.finishes = False
        await producer.send_and_wait(topic, b"x", partition=0)
        await until(lambda: one.has(every[0]) == b"x")
        coordinator = one.consumer._member  # pyright: ignore
        before = coordinator.member_id
        await coordinator.send(LeaveGroupRequest(topic, before), "test")  # as after a session timeout
        one.finish()
        await until(lambda: coordinator.member_id not in ("", before) and len(handed) == 2)
        await producer.send_and_wait(topic, b"y", partition=1)
        await until(lambda: one.has(every[1]) == b"y")


async def test_expulsion_ends_release_in_progress(
    kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.delivery.consumer.DRAIN_S", WAIT_S)
    every = [TopicPartition(topic, number) for number in range(4)]

    async def take(consumer: Consumer, count: int) -> list[Record]:
        taken: list[Record] = []
        async with asyncio.timeout(WAIT_S):
            while len(taken) < count:
                taken += await consumer.poll()
        return taken

    async with Producer(kafka, "test") as producer, Consumer(kafka, "test", group=topic) as consumer:
        for partition in every:
            await producer.send_and_wait(topic, b"first", partition=partition.partition)
        await consumer.subscribe([topic])
        await take(consumer, 4)
        async with Consumer(kafka, "comes", group=topic) as comes:
            await comes.subscribe([topic])
            await until(lambda: len(consumer.reading) == 2)  # the others are being drained
            moving = next(partition for partition in every if partition not in consumer.reading)
        coordinator, committer = consumer._member, consumer._committer  # pyright: ignore
        async with committer._lock:  # pyright: ignore - simulates a slow commit, for which the release waits
            await coordinator.send(
                LeaveGroupRequest(topic, coordinator.member_id), "test"
            )  # as after a session timeout
            await take(consumer, 4)
            assert consumer.in_flight == 4
        for _ in range(100):
            await asyncio.sleep(0)
        assert consumer.in_flight == 4, "the release of what was lost has forgotten what is read now"
        await producer.send_and_wait(topic, b"second", partition=moving.partition)
        (second,) = await take(consumer, 1)
        consumer.done(second)
        assert await consumer.commit()
        assert await coordinator.fetch([moving]) == {}, "committed past a record that is not done"
