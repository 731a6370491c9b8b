"""Dead letters keep the whole record, and are sent again once."""

import asyncio
from uuid import uuid4

import pytest

from broker.dead_letters import parse_letter, publish_dead_letter, replay
from broker.delivery.consumer import Consumer
from broker.producer import Producer
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, delete_topics, ensure_system_topics, ensure_topics
from schemas.topics import DEAD_LETTERS
from tests.waiting import PATIENCE_S


@pytest.fixture
async def replay_group(kafka: KafkaSettings) -> str:
    """A group that has replayed all there is: the topic is shared by all tests of a session."""
    await ensure_system_topics(kafka)
    group = f"replay-{uuid4()}"
    await replay(kafka, group=group)
    return group


async def test_a_letter_is_the_record_with_its_story(kafka: KafkaSettings, topic: str, replay_group: str) -> None:
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


async def test_each_letter_is_replayed_once(kafka: KafkaSettings, topic: str, replay_group: str) -> None:
    async with Producer(kafka, "test") as producer, Consumer(kafka, "test", group=topic) as consumer:
        for number in range(3):
            await producer.send_and_wait(topic, b"%d" % number, key=b"k", headers=[("infaas-id", b"7")], partition=0)
        await consumer.assign(topic, [0, 1, 2, 3])
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                record = (await consumer.poll(1))[0]
                await (await publish_dead_letter(producer, record, "on purpose"))
                consumer.done(record)
            assert await replay(kafka, group=replay_group) == 3
            assert await replay(kafka, group=replay_group) == 0
            again = []
            while len(again) < 3:
                again += await consumer.poll()
        assert [record.value for record in again] == [b"0", b"1", b"2"]
        assert all(record.key == b"k" for record in again)
        assert again[0].headers == (("infaas-id", b"7"), ("infaas-attempts", b"1"))


async def test_what_is_no_letter_is_passed_over(kafka: KafkaSettings, replay_group: str) -> None:
    async with Producer(kafka, "test") as producer:
        await producer.send_and_wait(DEAD_LETTERS, b"not one of ours")
    assert await replay(kafka, group=replay_group) == 0
    assert await replay(kafka, group=replay_group) == 0


async def test_a_letter_whose_topic_is_gone_stops_nothing(kafka: KafkaSettings) -> None:
    gone, kept = f"test-{uuid4()}", f"test-{uuid4()}"
    group = f"replay-{uuid4()}"
    await ensure_system_topics(kafka)
    await replay(kafka, group=group)
    await ensure_topics(kafka, [TopicSpec(gone), TopicSpec(kept)])
    async with Producer(kafka, "test") as producer, Consumer(kafka, "test", group=gone) as consumer:
        for name in (gone, kept):
            await producer.send_and_wait(name, b"x")
            await consumer.assign(name, [0])
            async with asyncio.timeout(PATIENCE_S):
                record = (await consumer.poll())[0]
                await (await publish_dead_letter(producer, record, "on purpose"))
    await delete_topics(kafka, [gone])
    assert await replay(kafka, group=group) == 1
