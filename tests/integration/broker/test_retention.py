"""Tests of topic retention: queries are never deleted by age or size, and older configurations are corrected."""

import time
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from broker.kafka.admin import open_librdkafka_admin, read_configs, set_configs
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import (
    TopicSpec,
    ensure_system_topics,
    ensure_task_topics,
    ensure_topics,
    ensure_variant_topics,
)
from schemas.topics import DEAD_LETTERS, results_topic, task_topic, variant_topic
from tests.waiting import read_until, until

KEYS = ("retention.ms", "retention.bytes", "message.timestamp.type", "min.insync.replicas", "segment.bytes")


async def configs_of(kafka: KafkaSettings, topic: str) -> dict[str, str | None]:
    async with open_librdkafka_admin(kafka) as admin:
        return (await read_configs(admin, [topic]))[topic]


async def kept_ms(kafka: KafkaSettings, topic: str, retention_ms: int) -> dict[str, str | None]:
    """Return the configuration of a topic once it has this retention: a change reaches the broker after a moment."""
    return await read_until(lambda: configs_of(kafka, topic), lambda found: found["retention.ms"] == str(retention_ms))


async def test_task_topic_backlog_outlives_retention(quick_kafka: KafkaSettings) -> None:
    hasty = quick_kafka.model_copy(update={"retention_ms": 1000})
    task = f"task-{uuid4()}"
    await ensure_task_topics(hasty, task, 1)
    work, aged = TopicPartition(task_topic(task), 0), TopicPartition(results_topic(task), 0)
    async with (
        AIOKafkaProducer(bootstrap_servers=hasty.bootstrap) as producer,
        AIOKafkaConsumer(bootstrap_servers=hasty.bootstrap) as consumer,
    ):
        for partition in (work, aged):
            for _ in range(10):
                await producer.send_and_wait(partition.topic, b"waits", partition=0)
        # Old results are deleted; by then, queries would have been deleted, too.
        await until(lambda: begins_at(consumer, aged, 10))
        assert await consumer.beginning_offsets([work]) == {work: 0}


async def begins_at(consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> bool:
    return (await consumer.beginning_offsets([partition]))[partition] == offset


async def test_work_topics_keep_records_and_stamp_append_time(kafka: KafkaSettings) -> None:
    name = f"task-{uuid4()}"
    await ensure_task_topics(kafka, name, 1)
    await ensure_variant_topics(kafka, [(name, 1)])
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for topic in (task_topic(name), variant_topic(name)):
            found = await configs_of(kafka, topic)
            assert [found[key] for key in KEYS[:3]] == ["-1", "-1", "LogAppendTime"]
            before_ms = time.time() * 1000
            sent = await producer.send_and_wait(topic, b"x", timestamp_ms=1)
            assert before_ms - 1000 <= sent.timestamp <= time.time() * 1000 + 1000
    results = await configs_of(kafka, results_topic(name))
    assert (results["retention.ms"], results["message.timestamp.type"]) == (str(kafka.retention_ms), "LogAppendTime")


async def test_ensure_topics_corrects_configs_and_keeps_others(kafka: KafkaSettings) -> None:
    name = f"task-{uuid4()}"
    await ensure_task_topics(kafka, name, 1)
    await ensure_system_topics(kafka)
    hour = {"retention.ms": "3600000", "retention.bytes": "1000", "message.timestamp.type": "CreateTime"}
    async with open_librdkafka_admin(kafka) as admin:
        await set_configs(admin, {task_topic(name): hour | {"min.insync.replicas": "2"}})
        await set_configs(admin, {DEAD_LETTERS: {"retention.ms": "3600000", "retention.bytes": "-1"}})
    for topic in (task_topic(name), DEAD_LETTERS):
        await kept_ms(kafka, topic, 3_600_000)
    await ensure_task_topics(kafka, name, 1)
    await ensure_system_topics(kafka)
    found = await kept_ms(kafka, task_topic(name), -1)
    assert [found[key] for key in KEYS[:4]] == ["-1", "-1", "LogAppendTime", "2"]
    assert kafka.dead_letter_retention_ms >= 14 * 86_400_000
    letters = await kept_ms(kafka, DEAD_LETTERS, kafka.dead_letter_retention_ms)
    assert letters["retention.bytes"] == str(kafka.dead_letter_retention_bytes)


async def test_segment_size_exceeds_largest_record(kafka: KafkaSettings) -> None:
    large = kafka.model_copy(update={"max_record_bytes": 200 * 1024 * 1024})
    topic = variant_topic(f"large-{uuid4()}")
    await ensure_topics(large, [TopicSpec(topic)])
    assert int((await configs_of(large, topic))["segment.bytes"] or 0) > large.max_record_bytes


async def test_results_topic_keeps_its_partition_count(kafka: KafkaSettings) -> None:
    task = f"task-{uuid4()}"
    await ensure_task_topics(kafka, task, 2)
    await ensure_task_topics(kafka, task, 4)
    async with open_admin(kafka) as admin:
        described = await admin.describe_topics([task_topic(task), results_topic(task)])
    assert {t["topic"]: len(t["partitions"]) for t in described} == {task_topic(task): 4, results_topic(task): 2}
