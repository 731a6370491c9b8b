"""Tests of the producer: order, limits and failures."""

import asyncio
import logging
import time
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaConnectionError

from broker.delivery.consumer import Consumer
from broker.kafka.client import open_admin
from broker.kafka.settings import Compression, KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import KafkaError, RecordTooLarge, UnknownTopic
from broker.producing import producer as producer_module
from broker.producing.produce_api import Produce
from broker.producing.producer import Ack, Producer
from tests.waiting import PATIENCE_S, until


async def test_producer_keeps_order_while_metadata_loads(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        sent = [await producer.send(topic, b"%d" % n, partition=2, headers=[("n", b"%d" % n)]) for n in range(50)]
        await sent[0]
        sent += [await producer.send(topic, b"%d" % n, key=b"k", partition=2) for n in range(50, 100)]
        assert [(await ack).offset for ack in sent] == list(range(100))
    assert producer.in_flight == 0
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [2])
        out = await consumer.poll()
        while len(out) < 100:
            out += await consumer.poll()
        assert [int(record.value or b"") for record in out] == list(range(100))
        assert list(out[7].headers) == [("n", b"7")]


async def test_learn_time_sets_broker_clock(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        assert not producer.clock.heard
        await producer.learn_time(topic)
        assert producer.clock.heard


async def test_learn_time_works_after_lost_acknowledgement(
    kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Producer(kafka, "test") as producer:
        client: Any = producer._client  # pyright: ignore[reportPrivateUsage] - the acknowledgement is lost below it
        send, lost = client.send, list[Produce]()

        async def lose_the_first(node: int, request: Any, **more: Any) -> Any:
            answer = await send(node, request, **more)
            if isinstance(request, Produce) and not lost:
                lost.append(request)
                raise KafkaConnectionError("the acknowledgement is lost")
            return answer

        monkeypatch.setattr(client, "send", lose_the_first)
        await producer.learn_time(topic)
        assert lost
        assert producer.clock.heard
        assert abs(producer.clock.now_ms() / 1e3 - time.time()) < PATIENCE_S


async def test_learn_time_of_missing_topic_keeps_wall_clock(kafka: KafkaSettings) -> None:
    async with Producer(kafka, "test") as producer:
        await producer.learn_time(f"nowhere-{uuid4()}")
        assert not producer.clock.heard


@pytest.mark.parametrize("compression", list(Compression))
async def test_producer_supports_each_compression(kafka: KafkaSettings, topic: str, compression: Compression) -> None:
    settings = kafka.model_copy(update={"compression": compression})
    value = b"compress me " * 1000
    async with Producer(settings, "test") as producer, Consumer(settings, "test", group=topic) as consumer:
        await producer.send_and_wait(topic, value, partition=0)
        await consumer.assign(topic, [0])
        async with asyncio.timeout(PATIENCE_S):
            assert (await consumer.poll())[0].value == value


async def test_send_waits_at_max_in_flight(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test", max_in_flight=10) as producer:
        await producer.prefetch_metadata([topic])
        maximum, sent = 0, []
        for number in range(100):
            sent.append(await producer.send(topic, b"x", partition=number % 4))
            maximum = max(maximum, producer.in_flight)
        await asyncio.gather(*sent)
    assert maximum == 10


async def test_producer_exit_flushes_lingering_records(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        await producer.prefetch_metadata([topic])
        sent = [await producer.send(topic, b"x", partition=number, linger_s=3600) for number in range(4)]
    assert [ack.result().offset for ack in sent] == [0] * 4


async def test_lingering_record_leaves_with_an_urgent_one(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer, asyncio.timeout(PATIENCE_S):
        await producer.prefetch_metadata([topic])
        lingering = await producer.send(topic, b"x", partition=1, linger_s=3600)
        await producer.send_and_wait(topic, b"x", partition=2)
        assert (await lingering).offset == 0


async def test_send_fails_through_its_future(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        await producer.prefetch_metadata([topic])
        with pytest.raises(RecordTooLarge):
            await (await producer.send(topic, b"x" * (kafka.max_record_bytes + 1)))
        with pytest.raises(UnknownTopic):
            await (await producer.send(topic, b"x", partition=99))
    assert producer.in_flight == 0


async def test_producer_writes_to_new_partition_at_once(kafka: KafkaSettings) -> None:
    """The producer has metadata from before the topic grew: records wait for new metadata, in order, and none fails."""
    topic = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic, 1)])
    async with Producer(kafka, "test") as producer:
        await producer.send_and_wait(topic, b"before", partition=0)
        await ensure_topics(kafka, [TopicSpec(topic, 3)])
        async with asyncio.timeout(PATIENCE_S):  # metadata would expire after minutes
            sent = [await producer.send(topic, b"%d" % number, partition=2) for number in range(10)]
            assert [(await ack).offset for ack in sent] == list(range(10))
        await ensure_topics(kafka, [TopicSpec(topic, 4)])
        await producer.prefetch_metadata([topic], refresh=True)
        assert (await producer.send_and_wait(topic, b"x", partition=3)).offset == 0


async def test_producer_sends_record_of_five_megabytes(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer, Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        await producer.send_and_wait(topic, b"x" * 5_000_000, partition=0)
        async with asyncio.timeout(PATIENCE_S):
            assert len((await consumer.poll())[0].value or b"") == 5_000_000


async def test_send_to_unknown_topic_fails_without_delaying_others(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, missing = f"test-{uuid4()}", f"missing-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic)])
    async with Producer(kafka, "test") as producer:
        await producer.prefetch_metadata([topic])
        with monkeypatch.context() as patient:
            patient.setattr("broker.producing.topic_lookup.METADATA_S", PATIENCE_S)
            lost = await producer.send(missing, b"x")
            for _ in range(5):
                await producer.send_and_wait(topic, b"x")
            assert not lost.done()
        with pytest.raises(UnknownTopic):
            await lost
        # The missing topic is cached: refused at once.
        assert isinstance((await producer.send(missing, b"x")).exception(), UnknownTopic)
        # The cached entry expires.
        await ensure_topics(kafka, [TopicSpec(missing)])
        await until(lambda: is_taken(producer, missing))


async def is_taken(producer: Producer, topic: str) -> bool:
    try:
        await producer.send_and_wait(topic, b"x")
    except UnknownTopic:
        return False
    return True


async def test_send_to_deleted_topic_fails_without_delaying_others(kafka: KafkaSettings) -> None:
    settings = kafka.model_copy(update={"request_timeout_ms": 5000})
    kept, gone = f"test-{uuid4()}", f"test-{uuid4()}"
    await ensure_topics(settings, [TopicSpec(kept), TopicSpec(gone)])
    async with Producer(settings, "test") as producer:
        await producer.prefetch_metadata([kept, gone])
        await producer.send_and_wait(gone, b"x")
        await delete_topics(settings, [gone])
        lost = [await producer.send(gone, b"x") for _ in range(3)]
        await producer.send_and_wait(kept, b"x")
        assert not any(future.done() for future in lost)
        for future in lost:
            with pytest.raises(KafkaError):
                await future
        with pytest.raises(KafkaError):
            await producer.send_and_wait(gone, b"x")


async def test_records_too_large_for_topic_fail_alone(kafka: KafkaSettings) -> None:
    """A client's topic has a smaller limit than the producer: sent in a batch with others, alone, and repeatedly."""
    narrow, wide = f"test-{uuid4()}", f"test-{uuid4()}"
    await ensure_topics(kafka.model_copy(update={"max_record_bytes": 50_000}), [TopicSpec(narrow)])
    await ensure_topics(kafka, [TopicSpec(wide)])
    sizes = [100, 60_000, 100, 20_000, 20_000, 20_000, 300_000, 100, 70_000, 100]
    async with Producer(kafka, "test") as producer, asyncio.timeout(PATIENCE_S):
        await producer.prefetch_metadata([narrow, wide])
        for topic in (narrow, wide, narrow):
            sent = [await producer.send(topic, b"x" * size) for size in sizes]
            ends = await asyncio.gather(*sent, return_exceptions=True)
            for size, end in zip(sizes, ends, strict=True):
                expected = RecordTooLarge if topic == narrow and size > 50_000 else Ack
                assert isinstance(end, expected), (topic == narrow, size, end)
        assert (await producer.send_and_wait(narrow, b"x")).offset == 14
        assert (await producer.send_and_wait(wide, b"x")).offset == 10


async def test_records_near_size_limit_are_taken_or_refused(kafka: KafkaSettings) -> None:
    settings, topic = kafka.model_copy(update={"max_record_bytes": 100_000}), f"test-{uuid4()}"
    await ensure_topics(settings, [TopicSpec(topic)])
    headers, taken = [("infaas-id", b"q" * 32), ("infaas-task", b"digits")], list[bool]()
    async with Producer(settings, "test") as producer, asyncio.timeout(PATIENCE_S):
        await producer.send_and_wait(topic, b"x")
        for spare in range(0, 400, 8):
            sent = await producer.send(topic, b"x" * (100_000 - spare), key=b"k", headers=headers)
            small = await producer.send(topic, b"x")
            taken.append(isinstance((await asyncio.gather(sent, return_exceptions=True))[0], Ack))
            assert isinstance(sent.exception(), RecordTooLarge | None)
            await small
    assert taken == sorted(taken), "all that are smaller than one that is taken"
    assert 0 < sum(taken) < len(taken)


async def test_producer_many_unknown_topics_delay_no_other(kafka: KafkaSettings, topic: str) -> None:
    """One task sends to thousands of names that clients invented, and to a topic that exists."""
    missing, ends = f"missing-{uuid4()}", Counter[str]()

    def on_ack(outcome: Ack | KafkaError) -> None:
        ends[type(outcome).__name__] += 1

    async with Producer(kafka, "test", max_in_flight=200) as producer:
        await producer.prefetch_metadata([topic])
        async with asyncio.timeout(PATIENCE_S):
            for number in range(3000):
                await producer.post(f"{missing}-{number}", b"x", on_ack)
                if number % 100 == 0:
                    await producer.send_and_wait(topic, b"x")
        async with asyncio.timeout(PATIENCE_S):
            while ends.total() < 3000:
                await producer.send_and_wait(topic, b"x")
    assert ends["Ack"] == 0
    assert ends["UnknownTopicOrPartitionError"] >= 50


@pytest.mark.parametrize("name", ["x" * 40_000, "x" * 250, "../../etc/passwd", "", ".."], ids=len)
async def test_producer_refuses_invalid_topic_name(
    kafka: KafkaSettings, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    new = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(new)])
    async with Producer(kafka, "test") as producer:
        with pytest.raises(UnknownTopic):
            await producer.send_and_wait(name, b"x")
        with caplog.at_level(logging.WARNING, "broker.producing.topic_lookup"):
            await producer.prefetch_metadata([name])
        assert not caplog.records, "it was asked for, and waited for"
        # Topics are still found.
        assert (await producer.send_and_wait(new, b"x")).offset == 0


async def test_ack_carries_append_time_of_broker(kafka: KafkaSettings, topic: str) -> None:
    unstamped = f"test-{uuid4()}"
    async with open_admin(kafka) as admin:
        await admin.create_topics([NewTopic(unstamped, 1, 1, topic_configs={"message.timestamp.type": "CreateTime"})])
    began_ms = time.time() * 1000
    async with Producer(kafka, "test") as producer:
        assert (await producer.send_and_wait(unstamped, b"x")).timestamp == -1
        assert not producer.clock.heard, "the sender's own time says nothing"
        ack = await producer.send_and_wait(topic, b"x")
        assert producer.clock.heard
    assert ack.timestamp == pytest.approx(began_ms, abs=60_000)


async def test_producer_bounds_in_flight_bytes(kafka: KafkaSettings, topic: str) -> None:
    value = b"x" * 10_000_000
    async with Producer(kafka, "test") as producer, asyncio.timeout(60):
        await producer.prefetch_metadata([topic])
        sent, most = [], 0
        for number in range(12):
            sent.append(await producer.send(topic, value, partition=number % 4))
            most = max(most, producer.in_flight)
        await asyncio.gather(*sent)
    assert 1 < most <= producer_module.MAX_BYTES // len(value)
