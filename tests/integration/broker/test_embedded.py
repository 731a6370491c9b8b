"""Tests of the embedded broker: its supported operations and its missing features."""

import asyncio
from uuid import uuid4

from broker.delivery.consumer import Consumer
from broker.kafka.cluster import BrokerFeatures, broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_task_topics, ensure_topics
from broker.producing.producer import Producer
from broker.topic_logs import topic_ends, topic_names
from schemas.topics import REPLIES, reply_topic
from tests.waiting import PATIENCE_S


async def test_embedded_broker_ensures_topics_and_reports_ends(embedded_kafka: KafkaSettings) -> None:
    task, owned = f"task-{uuid4()}", reply_topic(f"test-{uuid4()}")
    for _ in range(2):
        await ensure_system_topics(embedded_kafka)
        await ensure_task_topics(embedded_kafka, task, 2)
    await ensure_topics(embedded_kafka, [TopicSpec(owned)])
    async with Producer(embedded_kafka, "test") as producer:
        assert owned in await topic_names(embedded_kafka, REPLIES)
        ends = [(await topic_ends(embedded_kafka, [owned]))[owned]]
        for _ in range(3):
            await producer.send_and_wait(owned, None, key=b"claim")
            ends.append((await topic_ends(embedded_kafka, [owned]))[owned])
        assert ends == sorted(set(ends)), "it moves with each claim"


async def test_broker_features_are_detected(kafka: KafkaSettings, embedded_kafka: KafkaSettings) -> None:
    assert await broker_features(kafka) == BrokerFeatures()
    assert await broker_features(embedded_kafka) == BrokerFeatures(
        idempotence=False, groups=False, growth=False, trims=False, wakes=False, transactions=False
    )


async def test_embedded_broker_consumer_reads_all_subscriptions(embedded_kafka: KafkaSettings) -> None:
    kafka, first, more = embedded_kafka, f"test-{uuid4()}", f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(first, 3), TopicSpec(more, 2)])
    written, read = list[tuple[str, int, int]](), list[tuple[str, int, int]]()

    async def write(producer: Producer, topic: str, partitions: int) -> None:
        for number in range(2 * partitions):
            ack = await producer.send_and_wait(topic, b"x", partition=number % partitions)
            written.append((ack.topic, ack.partition, ack.offset))

    async def catch_up(consumer: Consumer) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(read) < len(written):
                for record in await consumer.poll():
                    read.append((record.topic, record.partition, record.offset))
                    consumer.done(record)

    async with Producer(kafka, "test") as producer:
        async with Consumer(kafka, "test", group=first, instance_id="one") as consumer:
            await consumer.subscribe([first])
            await write(producer, first, 3)
            await catch_up(consumer)
            await consumer.subscribe([first, more])
            await write(producer, first, 3)
            await write(producer, more, 2)
            await catch_up(consumer)
        await write(producer, more, 2)
        async with Consumer(kafka, "test", group=first, instance_id="one") as consumer:
            await consumer.subscribe([first, more])
            await catch_up(consumer)
    assert sorted(read) == sorted(written), "nothing is lost, and nothing came twice"
