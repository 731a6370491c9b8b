"""Tests of creating topics: they are usable as soon as the functions return."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from broker.fetch.tail import Tail
from broker.kafka.client import open_admin
from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import TopicSpec, ensure_task_topics, ensure_topics
from broker.kafka.types import APPEND_TIME
from broker.producing.producer import Producer
from schemas.errors import OperatorError
from schemas.topics import results_topic, task_topic
from tests.waiting import PATIENCE_S


async def test_ensure_topics_creates_more_topics_than_a_request_can(kafka: KafkaSettings) -> None:
    prefix = uuid4()
    specs = [TopicSpec(f"many-{prefix}-{number}") for number in range(1500)]
    await ensure_topics(kafka, specs)
    patient = kafka.model_copy(update={"request_timeout_ms": 60_000})  # a leader may not accept records yet
    async with Producer(patient, "test") as producer:
        await producer.prefetch_metadata([spec.name for spec in specs])
        sent = [await producer.send(spec.name, b"x") for spec in specs]
        assert {(await ack).offset for ack in sent} == {0}
    await delete_topics(kafka, [spec.name for spec in specs])


async def test_ensure_topics_is_idempotent(kafka: KafkaSettings, topic: str) -> None:
    await ensure_topics(kafka, [TopicSpec(topic, 4), TopicSpec(topic, 4)])
    await ensure_topics(kafka, [TopicSpec(topic, 2)])
    async with open_admin(kafka) as admin:
        assert len((await admin.describe_topics([topic]))[0]["partitions"]) == 4


async def test_ensure_topics_adds_missing_partitions(kafka: KafkaSettings) -> None:
    topic = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic, 2)])
    # Concurrent calls: the slower ones find the partitions added.
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(ensure_topics(kafka, [TopicSpec(topic, 5)]))
    async with open_admin(kafka) as admin:
        partitions = (await admin.describe_topics([topic]))[0]["partitions"]
    assert len(partitions) == 5
    assert all(partition["leader"] >= 0 for partition in partitions)
    assert (await broker_features(kafka)).growth


async def test_ensure_topics_explains_unsupported_growth(embedded_kafka: KafkaSettings) -> None:
    topic = f"test-{uuid4()}"
    await ensure_topics(embedded_kafka, [TopicSpec(topic, 4)])
    assert not (await broker_features(embedded_kafka)).growth
    with pytest.raises(OperatorError, match="exists with 4 partitions, but 5 are needed, and this broker cannot add"):
        await ensure_topics(embedded_kafka, [TopicSpec(topic, 5)])


async def test_ensured_topic_stamps_append_time(kafka: KafkaSettings, topic: str) -> None:
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as plain,
        Producer(kafka, "test") as producer,
        Tail(kafka, "test", [topic]) as tail,
    ):
        before = await producer.send_and_wait(topic, b"before", partition=0)
        await plain.send_and_wait(topic, b"by a wrong clock", partition=0, timestamp_ms=1)
        after = await producer.send_and_wait(topic, b"after", partition=0)
        async with asyncio.timeout(PATIENCE_S):
            records = [await anext(tail) for _ in range(3)]
    assert {record.timestamp_type for record in records} == {APPEND_TIME}
    assert (before.timestamp or 0) <= records[1].timestamp <= (after.timestamp or 0)


async def test_ensure_task_topics_creates_task_and_results_topics(kafka: KafkaSettings) -> None:
    task = f"task-{uuid4()}"
    await ensure_task_topics(kafka, task, 3)
    async with open_admin(kafka) as admin:
        described = {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics([task_topic(task)])}
        assert described == {task_topic(task): 3}
        assert results_topic(task) in await admin.list_topics()


async def test_ensure_topics_fails_in_time_if_unreachable() -> None:
    nowhere = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_ms=500)
    with pytest.raises(OperatorError, match=r"cannot reach Kafka at 127\.0\.0\.1:1"):
        async with asyncio.timeout(PATIENCE_S):
            await ensure_topics(nowhere, [TopicSpec("any")])


async def test_ensure_topics_names_invalid_topic(kafka: KafkaSettings) -> None:
    with pytest.raises(OperatorError, match="cannot create topic no spaces"):
        await ensure_topics(kafka, [TopicSpec("no spaces")])
