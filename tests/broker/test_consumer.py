"""The consumer's promises, on every broker."""

from uuid import uuid4

import pytest

from broker.consumer import Consumer
from broker.producer import Producer
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics


@pytest.fixture
async def topic(kafka: KafkaSettings) -> str:
    name = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(name, 4)])
    return name


async def test_out_of_order_completion_resumes_at_the_low_water_mark(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        for number in range(10):
            await producer.send_and_wait(topic, str(number).encode(), partition=1)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [1])
        taken = []
        while len(taken) < 10:
            taken += await consumer.batch()
        for record in taken:
            if record.offset not in (3, 7):
                consumer.done(record)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [1])
        assert (await consumer.batch())[0].offset == 3
