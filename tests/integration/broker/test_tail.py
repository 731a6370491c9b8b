"""Tests of the tail: it reads the records written after it was opened, and earlier ones if `since_ms` is set."""

import asyncio
from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.client import AIOKafkaClient

from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
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


async def test_tail_asks_once_for_metadata_of_all_topics(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    topics, asked = [f"many-{uuid4().hex[:8]}-{number}" for number in range(50)], list[None]()
    await ensure_topics(kafka, [TopicSpec(topic, 1) for topic in topics])
    update: Any = AIOKafkaClient.force_metadata_update

    def counted(client: Any) -> Awaitable[bool]:
        asked.append(None)
        return update(client)

    monkeypatch.setattr(AIOKafkaClient, "force_metadata_update", counted)
    async with Tail(kafka, "tail", topics) as tail, Producer(kafka, "producer") as producer:
        await producer.send_and_wait(topics[-1], b"one")
        assert (await anext(tail)).value == b"one"
    assert len(asked) < 10, "of both clients"
