"""A tail sees all that is written after it was opened, and nothing older."""

import asyncio

from broker.producer import Producer
from broker.settings import KafkaSettings
from broker.tail import Tail


async def test_only_what_comes_after_is_read(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        for partition in range(4):
            await producer.send_and_wait(topic, b"old", partition=partition)
        async with Tail(kafka, "test", [topic]) as tail, asyncio.timeout(10):
            for partition in range(4):
                await producer.send_and_wait(topic, b"new", partition=partition)
            seen = [await anext(tail) for _ in range(4)]
    assert {(record.partition, record.offset, record.value) for record in seen} == {(p, 1, b"new") for p in range(4)}
