"""Tests of the tail: it reads the records written after it was opened, and earlier ones if `since_ms` is set."""

import asyncio

from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Producer
from tests.waiting import PATIENCE_S


async def test_tail_reads_only_later_records(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        for partition in range(4):
            await producer.send_and_wait(topic, b"old", partition=partition)
        async with Tail(kafka, "test", [topic]) as tail, asyncio.timeout(PATIENCE_S):
            for partition in range(4):
                await producer.send_and_wait(topic, b"new", partition=partition)
            seen = [await anext(tail) for _ in range(4)]
    assert {(record.partition, record.offset, record.value) for record in seen} == {(p, 1, b"new") for p in range(4)}


async def test_tail_since_ms_replays_earlier_records(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        written = await producer.send_and_wait(topic, b"late", partition=0)
        async with Tail(kafka, "test", [topic], since_ms=written.timestamp) as tail, asyncio.timeout(PATIENCE_S):
            await producer.send_and_wait(topic, b"new", partition=0)
            await producer.send_and_wait(topic, b"first", partition=1)
            seen = {(record.value, tail.is_replayed(record)) for record in [await anext(tail) for _ in range(3)]}
    assert seen == {(b"late", True), (b"new", False), (b"first", False)}
