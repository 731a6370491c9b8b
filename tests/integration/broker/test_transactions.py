"""Tests of transactions of external clients: aborted records are never read, and markers cause no lag."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from broker.delivery.consumer import Consumer
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.lag.reader import LagReader
from tests.waiting import PATIENCE_S, read_until


@asynccontextmanager
async def transactional(kafka: KafkaSettings) -> AsyncGenerator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"test-{uuid4().hex}", transaction_timeout_ms=60_000
    ) as producer:
        yield producer


async def write(producer: AIOKafkaProducer, topic: str, *values: bytes) -> None:
    """Write values, each after the acknowledgement of the last, so that each is a batch of its own."""
    for value in values:
        await producer.send_and_wait(topic, value, partition=0)


async def write_and_end(producer: AIOKafkaProducer, topic: str, *values: bytes, commit: bool) -> None:
    await producer.begin_transaction()
    await write(producer, topic, *values)
    await (producer.commit_transaction() if commit else producer.abort_transaction())


async def lag_of(reader: LagReader, topic: str) -> int:
    observation = await reader.read_until_known({topic: [topic]})
    return int(observation.lag.sum())


class Reading:
    """Consumer that finishes every record at once, and the values that it read."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.values: list[bytes | None] = []

    async def run(self) -> None:
        while True:
            for record in await self.consumer.poll():
                self.values.append(record.value)
                self.consumer.done(record)


@asynccontextmanager
async def reading(kafka: KafkaSettings, topic: str) -> AsyncGenerator[Reading]:
    async with Consumer(kafka, "test", group=topic) as consumer, asyncio.TaskGroup() as tasks:
        await consumer.assign(topic, [0])
        found = Reading(consumer)
        task = tasks.create_task(found.run())
        yield found
        task.cancel()


async def until_no_lag(kafka: KafkaSettings, topic: str) -> None:
    async with LagReader(kafka) as reader:
        await read_until(lambda: lag_of(reader, topic), lambda lag: lag == 0)


async def test_consumer_skips_aborted_transactions(kafka: KafkaSettings, topic: str) -> None:
    async with transactional(kafka) as producer, AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as plain:
        await write_and_end(producer, topic, b"aborted 1", b"aborted 2", commit=False)
        await write_and_end(producer, topic, b"committed 1", b"committed 2", commit=True)
        await write_and_end(producer, topic, b"aborted 3", commit=False)
        await plain.send_and_wait(topic, b"plain", partition=0)
        async with reading(kafka, topic) as found:
            await read_until(lambda: _values(found), lambda values: b"plain" in values)
            assert found.values == [b"committed 1", b"committed 2", b"plain"]


async def _values(found: Reading) -> list[bytes | None]:
    return found.values


async def test_consumer_separates_interleaved_transactions(kafka: KafkaSettings, topic: str) -> None:
    async with transactional(kafka) as good, transactional(kafka) as bad, reading(kafka, topic) as found:
        await good.begin_transaction()
        await bad.begin_transaction()
        for number in range(10):
            await write(good, topic, b"good %d" % number)
            await write(bad, topic, b"bad %d" % number)
        await bad.abort_transaction()
        await write_and_end(bad, topic, b"good now", commit=True)
        await good.commit_transaction()
        await read_until(lambda: _values(found), lambda values: b"good now" in values)
        assert found.values == [*(b"good %d" % number for number in range(10)), b"good now"]


async def test_lag_is_zero_after_transaction_commit(kafka: KafkaSettings, topic: str) -> None:
    async with transactional(kafka) as producer, reading(kafka, topic):
        await write_and_end(producer, topic, b"1", b"2", commit=True)
        await until_no_lag(kafka, topic)


async def test_lag_is_zero_after_transaction_abort(kafka: KafkaSettings, topic: str) -> None:
    async with transactional(kafka) as producer, reading(kafka, topic) as found:
        await write_and_end(producer, topic, b"1", b"2", commit=False)
        await until_no_lag(kafka, topic)
        assert found.values == []
        assert found.consumer.position(0) == found.consumer.end(0) == 3


async def test_lag_ignores_open_transaction(kafka: KafkaSettings, topic: str) -> None:
    async with transactional(kafka) as producer, LagReader(kafka) as reader:
        await producer.begin_transaction()
        await write(producer, topic, b"1", b"2")
        assert await lag_of(reader, topic) == 0
        await producer.commit_transaction()
        await read_until(lambda: lag_of(reader, topic), lambda lag: lag == 3)
        async with reading(kafka, topic) as found:
            await read_until(lambda: lag_of(reader, topic), lambda lag: lag == 0)
            assert found.values == [b"1", b"2"]


async def test_consumer_restart_repeats_unfinished_records(kafka: KafkaSettings, topic: str) -> None:
    async with transactional(kafka) as producer:
        await write_and_end(producer, topic, b"1", b"2", b"3", commit=True)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        async with asyncio.timeout(PATIENCE_S):
            (first,) = await consumer.poll(1)
        consumer.done(first)
    async with reading(kafka, topic) as found:
        await until_no_lag(kafka, topic)
        assert found.values == [b"2", b"3"]


async def test_tail_past_ends_after_aborted_transaction(kafka: KafkaSettings, topic: str) -> None:
    async with transactional(kafka) as producer:
        await write_and_end(producer, topic, b"kept", commit=True)
        await write_and_end(producer, topic, b"aborted", commit=False)
    async with Tail(kafka, "test", [topic], since_ms=0.0) as tail, asyncio.timeout(PATIENCE_S):
        assert [record.value async for record in tail.past()] == [b"kept"]
