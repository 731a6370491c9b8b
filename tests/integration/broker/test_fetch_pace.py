"""A consumer that finds nothing for a while lets the broker hold its fetches longer, until records come again."""

import asyncio
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, TopicPartition

from broker.client import new_consumer
from broker.fetch_pace import FetchPace
from broker.producer import Producer
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics


def wait_ms(consumer: AIOKafkaConsumer) -> int:
    """What the next fetch will say."""
    return consumer._fetcher._fetch_max_wait_ms  # pyright: ignore


async def until_fetched(consumer: AIOKafkaConsumer) -> None:
    """Until records are there that nobody took, and the next fetch is under way."""
    fetcher = consumer._fetcher  # pyright: ignore
    while not (fetcher._records and fetcher._in_flight):  # pyright: ignore # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)


async def test_long_waits_begin_when_nothing_comes_and_end_with_the_first_record(
    kafka: KafkaSettings, topic: str
) -> None:
    kafka = kafka.model_copy(update={"fetch_max_wait_ms": 10})
    pace, consumer = FetchPace(kafka, factor=30), new_consumer(kafka, "test")
    async with consumer, Producer(kafka, "test") as producer, asyncio.timeout(20):
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        assert wait_ms(consumer) == 10
        assert not await pace.poll(consumer)
        assert wait_ms(consumer) == 300
        await producer.send_and_wait(topic, b"", partition=0)
        assert await pace.poll(consumer)
        assert wait_ms(consumer) == 10


async def test_the_lazy_hurry_only_for_records_that_follow_each_other(kafka: KafkaSettings, topic: str) -> None:
    kafka = kafka.model_copy(update={"fetch_max_wait_ms": 10})
    pace, consumer = FetchPace(kafka, lazy=True), new_consumer(kafka, "test")
    async with consumer, Producer(kafka, "test") as producer, asyncio.timeout(20):
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        while await pace.poll(consumer):
            pass
        for acknowledged in [await producer.send(topic, b"", partition=0) for _ in range(2)]:
            await acknowledged
        waits: list[int] = []
        for _ in range(2):
            assert len(await pace.poll(consumer, 1)) == 1
            waits.append(wait_ms(consumer))
        assert waits == [200, 10]


def test_no_fetch_is_held_for_longer_than_a_request_may_take() -> None:
    settings = KafkaSettings(fetch_max_wait_ms=500, request_timeout_ms=2_000)
    assert FetchPace(settings).long_ms == 1_000
    assert FetchPace(settings, longest_ms=100).long_ms == 500


async def test_who_comes_late_for_a_first_record_need_not_wait_for_the_next(kafka: KafkaSettings) -> None:
    kafka, topic = kafka.model_copy(update={"fetch_max_wait_ms": 500}), f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic, 2)])
    pace, consumer = FetchPace(kafka), new_consumer(kafka, "test")
    async with consumer, Producer(kafka, "test") as producer, asyncio.timeout(30):
        consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        await consumer.seek_to_beginning()
        assert not await pace.poll(consumer)
        await consumer.getmany(timeout_ms=2_000)  # the short fetch under way ends, a long one begins
        await producer.send_and_wait(topic, b"first", partition=0)
        await until_fetched(consumer)  # aiokafka goes on without partition 0 as nobody takes what it has of it
        assert await pace.poll(consumer)
        await producer.send_and_wait(topic, b"second", partition=0)
        async with asyncio.timeout(2):
            assert await pace.poll(consumer)
