"""Tests of writing dead letters."""

import asyncio

from broker.dead_letters import parse_letter, publish_dead_letter
from broker.delivery.consumer import Consumer
from broker.producer import Producer
from broker.settings import KafkaSettings
from broker.topics import ensure_system_topics
from schemas.topics import DEAD_LETTERS
from tests.waiting import PATIENCE_S


async def test_publish_dead_letter_keeps_whole_record_and_reason(kafka: KafkaSettings, topic: str) -> None:
    await ensure_system_topics(kafka)
    async with Producer(kafka, "test") as producer, Consumer(kafka, "test", group=topic) as consumer:
        await producer.send_and_wait(topic, b"\xffvalue", key=b"k", headers=[("infaas-id", b"7")], partition=3)
        await consumer.assign(topic, [3])
        async with asyncio.timeout(PATIENCE_S):
            original = (await consumer.poll())[0]
        await (await publish_dead_letter(producer, original, "not ünderstood", attempts=3))
    async with Consumer(kafka, "test", group=f"look-{topic}") as consumer, asyncio.timeout(PATIENCE_S):
        await consumer.assign(DEAD_LETTERS, [0])
        letter = None
        while letter is None or letter.topic != topic:
            for record in await consumer.poll():
                letter = parse_letter(record)
                consumer.done(record)
                if letter.topic == topic:
                    break
    assert (letter.topic, letter.partition, letter.offset) == (topic, 3, 0)
    assert (letter.reason, letter.attempts) == ("not ünderstood", 3)
    assert (letter.key, letter.value, letter.headers) == (b"k", b"\xffvalue", [("infaas-id", b"7")])
