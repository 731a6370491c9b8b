"""Tests of the record memory: it bounds the bytes of unfinished records, here large ones of an external client."""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from broker.delivery.consumer import Consumer, Record
from broker.delivery.in_flight import RecordMemory
from broker.fetch.read_connection import ReadConnection
from broker.kafka.settings import KafkaSettings
from tests.waiting import PATIENCE_S

LARGE = 4 * 1024 * 1024
LIMIT = 40 * 1024 * 1024
MANY = 35
"""Records of several times the limit."""


async def write_large(kafka: KafkaSettings, topic: str, partition: int, count: int) -> None:
    """Write records of 4 MiB that begin with their number."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, max_request_size=2 * LARGE) as producer:
        for number in range(count):
            await producer.send_and_wait(topic, (b"%09d" % number).ljust(LARGE, b"x"), partition=partition)


def numbers(records: Sequence[Record]) -> list[int]:
    return [int((record.value or b"")[:9]) for record in records]


def held(records: Sequence[Record]) -> int:
    return sum(len(record.value or b"") for record in records)


async def take_until_full(consumer: Consumer) -> list[Record]:
    """Poll records without finishing any, until none arrives for a second."""
    taken: list[Record] = []
    while True:
        try:
            async with asyncio.timeout(1.0):
                taken += await consumer.poll()
        except TimeoutError:
            return taken


async def test_record_memory_bounds_bytes_of_large_records(kafka: KafkaSettings, topic: str) -> None:
    await write_large(kafka, topic, 0, MANY)
    async with (
        Consumer(kafka, "test", group=topic, memory=RecordMemory(LIMIT)) as consumer,
        asyncio.timeout(2 * PATIENCE_S),
    ):
        await consumer.assign(topic, [0])
        seen: list[int] = []
        while len(seen) < MANY:
            taken = await take_until_full(consumer)
            assert held(taken) <= LIMIT + LARGE
            seen += numbers(taken)
            for record in taken:
                consumer.done(record)
        assert seen == [*range(MANY)]


async def test_max_in_flight_bytes_bounds_consumer(kafka: KafkaSettings, topic: str) -> None:
    await write_large(kafka, topic, 0, 15)
    settings = kafka.model_copy(update={"max_in_flight_bytes": LIMIT})
    async with Consumer(settings, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        assert 0 < held(await take_until_full(consumer)) <= LIMIT + LARGE


async def test_record_memory_full_consumer_blocks_no_other(kafka: KafkaSettings, topic: str) -> None:
    await write_large(kafka, topic, 0, 15)
    await write_large(kafka, topic, 1, 15)
    memory = RecordMemory(LIMIT)
    async with (
        ReadConnection(kafka, "test") as shared,
        Consumer(kafka, "a", group=f"{topic}-a", memory=memory, over=shared) as greedy,
        Consumer(kafka, "b", group=f"{topic}-b", memory=memory, over=shared) as other,
        asyncio.timeout(2 * PATIENCE_S),
    ):
        await greedy.assign(topic, [0])
        await other.assign(topic, [1])
        assert 0 < held(await take_until_full(greedy)) < 15 * LARGE
        seen: list[int] = []
        while len(seen) < 15:
            records = await other.poll()
            assert memory.used <= LIMIT + 2 * LARGE
            seen += numbers(records)
            for record in records:
                other.done(record)
        assert seen == [*range(15)]


async def test_record_memory_admits_record_above_limit(kafka: KafkaSettings, topic: str) -> None:
    await write_large(kafka, topic, 0, 3)
    async with (
        Consumer(kafka, "test", group=topic, memory=RecordMemory(1000)) as consumer,
        asyncio.timeout(2 * PATIENCE_S),
    ):
        await consumer.assign(topic, [0])
        for number in range(3):
            (record,) = await consumer.poll()
            assert numbers([record]) == [number]
            consumer.done(record)
