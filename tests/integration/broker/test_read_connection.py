"""Tests of consumers that share a read connection: one fetch serves all busy ones, and none delays another."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.client import AIOKafkaClient

from broker.delivery.consumer import Consumer
from broker.fetch.divided_reads import BUSY, IDLE
from broker.fetch.fetch_request import Fetch
from broker.fetch.read_connection import ReadConnection
from broker.kafka.client import open_admin
from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Producer
from tests.integration.broker.records import read
from tests.waiting import PATIENCE_S, read_until

_MANY = 8
_WAVES = 5
_RECORDS = 300


@pytest.fixture
async def topics(kafka: KafkaSettings) -> list[str]:
    """Names of new topics of two partitions each; tests use them as groups' names, too."""
    names = [f"test-{uuid4()}" for _ in range(_MANY)]
    await ensure_topics(kafka, [TopicSpec(name, 2) for name in names])
    return names


async def open_consumers(
    stack: AsyncExitStack, kafka: KafkaSettings, topics: list[str], max_in_flight: int = 1000
) -> tuple[ReadConnection, list[Consumer]]:
    """Open a consumer per topic over one connection, each with both partitions."""
    over = await stack.enter_async_context(ReadConnection(kafka, "test"))
    found = [Consumer(kafka, "test", group=name, max_in_flight=max_in_flight, over=over) for name in topics]
    for consumer, name in zip(found, topics, strict=True):
        await stack.enter_async_context(consumer)
        await consumer.assign(name, [0, 1])
    return over, found


class Fetches:
    """Counter of the fetches that a client sends, by the name of the connection."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self.sent_over = Counter[str]()
        send: Any = client.send

        async def counted(node: int, request: Any, *, group: Any = None) -> Any:
            if isinstance(request, Fetch):
                self.sent_over[group] += 1
            return await send(node, request, group=group)

        client.send = counted  # type: ignore[method-assign]

    @property
    def sent(self) -> int:
        """Number of all fetches."""
        return self.sent_over.total()


async def test_read_connection_serves_consumers_with_few_fetches(kafka: KafkaSettings, topics: list[str]) -> None:
    async with AsyncExitStack() as stack, Producer(kafka, "test") as producer:
        over, consumers = await open_consumers(stack, kafka, topics)
        fetches = Fetches(over.client)
        for wave in range(_WAVES):
            polls = [asyncio.ensure_future(consumer.poll()) for consumer in consumers]
            sent = [await producer.send(name, b"%d" % wave, partition=wave % 2) for name in topics]
            await asyncio.gather(*sent)
            async with asyncio.timeout(PATIENCE_S):
                found = [record for records in await asyncio.gather(*polls) for record in records]
            assert [(record.topic, record.value) for record in found] == [(name, b"%d" % wave) for name in topics]
        # Two a wave, since the producer sends a wave in two requests; separate connections would need one per consumer.
        assert fetches.sent < _WAVES * _MANY / 2


async def test_read_connection_reads_idle_partitions_by_rare_fetches(
    kafka: KafkaSettings, topics: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (await broker_features(kafka)).groups:
        pytest.skip("the embedded broker keeps no fetch sessions")
    monkeypatch.setattr("broker.fetch.divided_reads.IDLE_AFTER_S", 1.0)
    monkeypatch.setattr("broker.fetch.divided_reads.REVIEWED_EACH_S", 0.0)
    first, other = topics[:2]
    async with AsyncExitStack() as stack, Producer(kafka, "test") as producer:
        over, consumers = await open_consumers(stack, kafka, topics)
        reading = dict(zip(topics, consumers, strict=True))
        fetches = Fetches(over.client)

        async def fetched_for(topic: str, records: int) -> Counter[str]:
            """Write and read records one by one; return the fetches that were sent for them."""
            before = fetches.sent_over.copy()
            for number in range(records):
                await producer.send_and_wait(topic, b"%d" % number, partition=0)
                async with asyncio.timeout(PATIENCE_S):
                    (record,) = await reading[topic].poll()
                assert record.value == b"%d" % number
            return fetches.sent_over - before

        async with asyncio.timeout(PATIENCE_S):
            while not fetches.sent_over[IDLE]:
                await fetched_for(first, 1)
        busy = await fetched_for(first, 50)
        assert busy[BUSY] >= 50
        assert busy[IDLE] <= 2
        async with asyncio.timeout(PATIENCE_S):
            while (await fetched_for(other, 5))[BUSY] < 4:  # until the fetch of busy partitions in progress ends
                pass
        became_busy = await fetched_for(other, 50)
        assert became_busy[BUSY] >= 50
        assert became_busy[IDLE] <= 2


async def test_read_connection_full_consumer_delays_no_other(kafka: KafkaSettings, topics: list[str]) -> None:
    full_topic, other_topic = topics[:2]
    large, count = b"x" * 400_000, 30  # more than the buffer of a full consumer holds
    async with AsyncExitStack() as stack, Producer(kafka, "test") as producer:
        _, (full, other) = await open_consumers(stack, kafka, topics[:2], max_in_flight=2)
        for _ in range(count):
            await producer.send_and_wait(full_topic, large, partition=0)
        out = await read(full, 2)
        waiting = asyncio.ensure_future(full.poll())
        for number in range(20):
            await producer.send_and_wait(other_topic, b"%d" % number, partition=0)
            async with asyncio.timeout(PATIENCE_S):
                (record,) = await other.poll()
            assert record.offset == number
            other.done(record)
        assert not waiting.done()
        while len(out) < count:
            for record in out[-2:]:
                full.done(record)
            async with asyncio.timeout(PATIENCE_S):
                out += await waiting
            if len(out) < count:
                waiting = asyncio.ensure_future(full.poll())
        assert [record.offset for record in out] == list(range(count))


async def test_read_connection_deleted_topic_delays_no_other(kafka: KafkaSettings, topics: list[str]) -> None:
    gone, *others = topics
    async with AsyncExitStack() as stack, Producer(kafka, "test") as producer:
        _, consumers = await open_consumers(stack, kafka, topics)
        async with open_admin(kafka) as admin:
            await admin.delete_topics([gone])
        for number in range(5):
            for consumer, name in zip(consumers[1:], others, strict=True):
                await producer.send_and_wait(name, b"%d" % number, partition=0)
                (record,) = await read(consumer, 1)
                assert record.value == b"%d" % number


async def test_read_connection_forgets_topics_of_closed_consumers(kafka: KafkaSettings, topics: list[str]) -> None:
    async with AsyncExitStack() as stack:
        over, _ = await open_consumers(stack, kafka, topics[:1])
        async with Consumer(kafka, "test", group=topics[1], over=over) as leaving:
            await leaving.assign(topics[1], [0])
            assert topics[1] in over.client.cluster.topics()
        async with asyncio.timeout(PATIENCE_S):
            await over.client.force_metadata_update()
        assert over.client.cluster.topics() == {topics[0]}


@pytest.mark.parametrize("idle_after_s", [10.0, 0.0])
async def test_read_connection_keeps_order_as_consumers_come_and_go(
    kafka: KafkaSettings, topics: list[str], idle_after_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each consumer starts where its predecessor ended, while consumers of other topics come and go.

    With 0 s, partitions change between the fetches of busy and of idle ones all the time.
    """
    monkeypatch.setattr("broker.fetch.divided_reads.IDLE_AFTER_S", idle_after_s)
    monkeypatch.setattr("broker.fetch.divided_reads.REVIEWED_EACH_S", 0.001)
    seen: dict[tuple[str, int], list[bytes | None]] = {(name, number): [] for name in topics for number in (0, 1)}
    choose = random.Random(7)

    async def write(producer: Producer) -> None:
        for value in range(_RECORDS):
            for name, number in seen:
                await producer.send(name, b"%d" % value, partition=number)
            await asyncio.sleep(0.002)  # concurrently with the consumers

    def lacks(name: str, number: int) -> bool:
        return len(seen[name, number]) < _RECORDS

    async def come_and_go(over: ReadConnection, name: str) -> None:
        while missing := [number for number in (0, 1) if lacks(name, number)]:
            async with Consumer(kafka, "test", group=name, over=over, max_in_flight=40) as consumer:
                await consumer.assign(name, missing)
                for _ in range(choose.randrange(1, 30)):
                    if any(not lacks(name, number) for number in missing):
                        break
                    for record in await consumer.poll(choose.randrange(1, 9)):
                        seen[name, record.partition].append(record.value)
                        consumer.done(record)
                await read_until(consumer.commit, bool)

    async with AsyncExitStack() as stack, Producer(kafka, "test") as producer, asyncio.timeout(2 * PATIENCE_S):
        over = await stack.enter_async_context(ReadConnection(kafka, "test"))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write(producer))
            for name in topics:
                tasks.create_task(come_and_go(over, name))
    for place, values in seen.items():
        assert values == [b"%d" % number for number in range(_RECORDS)], place
