"""Tests of the lag reader: lag in records and seconds, and unknown lag, which is not zero."""

import asyncio
import time
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from broker.delivery.consumer import Consumer
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import Record
from broker.lag.reader import LagReader, PartitionLag
from broker.lag.timestamps import TimestampLookup
from broker.producing.producer import Producer
from tests.waiting import PATIENCE_S


async def lag_of(reader: LagReader, group: str, topic: str) -> dict[int, PartitionLag]:
    return {row.partition: row for row in (await reader.read_until_known({group: [topic]})).partition_lags()}


async def test_lag_reader_follows_commits(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        for number in range(6):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
        never = await lag_of(reader, topic, topic)
        assert sorted(never) == [0, 1, 2, 3]
        assert (never[0].end, never[0].committed, never[0].lag) == (6, None, 6)
        assert (never[1].end, never[1].committed, never[1].lag, never[1].lag_s) == (0, None, 0, 0.0)

        async with Consumer(kafka, "test", group=topic) as consumer:
            await consumer.assign(topic, [0])
            for record in (await consumer.poll(4))[:4]:
                consumer.done(record)
            assert await consumer.commit()
        some = (await lag_of(reader, topic, topic))[0]
        assert (some.end, some.committed, some.lag) == (6, 4, 2)
        assert some.lag_s is not None
        assert some.lag_s < 30
        read_s = time.time()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                asked_s = time.time()
                later = (await lag_of(reader, topic, topic))[0]
                assert later.lag_s is not None
                assert later.lag_s >= some.lag_s + asked_s - read_s
                if asked_s >= read_s + 0.1:
                    break
        assert later.lag_s >= some.lag_s + 0.1


async def test_lag_reader_counts_deleted_uncommitted_records_as_lost(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader, open_admin(kafka) as admin:
        for partition in (0, 1, 2):
            for _ in range(6):
                await producer.send_and_wait(topic, b"x", partition=partition)
        async with Consumer(kafka, "test", group=topic) as consumer:
            await consumer.assign(topic, [0, 1])
            held = list[Record]()
            while len(held) < 12:
                held += await consumer.poll()
            for record in held:
                if record.offset < 2:
                    consumer.done(record)
            assert await consumer.commit()
        before = {0: 5, 1: 6, 2: 3}
        await admin.delete_records({TopicPartition(topic, n): RecordsToDelete(to) for n, to in before.items()})
        found = await lag_of(reader, topic, topic)
    assert [(found[n].committed, found[n].lag, found[n].lost) for n in range(3)] == [(2, 1, 3), (2, 0, 4), (None, 3, 0)]


async def test_lag_reader_separates_groups_of_a_partition(kafka: KafkaSettings) -> None:
    topic = f"test-{uuid4()}"
    async with open_admin(kafka) as admin:  # `ensure_topics` would set the broker's timestamps
        await admin.create_topics([NewTopic(topic, 1, 1)])
    await ensure_topics(kafka, [TopicSpec(topic)])
    plain = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    async with plain, LagReader(kafka) as reader:
        now_ms = int(time.time() * 1000)
        await plain.send_and_wait(topic, b"old", partition=0, timestamp_ms=now_ms - 60_000)
        await plain.send_and_wait(topic, b"new", partition=0, timestamp_ms=now_ms)
        async with Consumer(kafka, "test", group=topic) as consumer:
            await consumer.assign(topic, [0])
            consumer.done((await consumer.poll(1))[0])
        reading = await reader.read_until_known({topic: [topic], f"other-{topic}": [topic]})
        lags = {(row.group, row.partition): row for row in reading.partition_lags()}
        mine, others = lags[topic, 0], lags[f"other-{topic}", 0]
        assert (mine.lag, others.lag) == (1, 2)
        assert mine.lag_s is not None
        assert others.lag_s is not None
        assert others.lag_s - mine.lag_s == pytest.approx(60, abs=0.01)


async def test_lag_reader_omits_missing_topic(kafka: KafkaSettings) -> None:
    async with LagReader(kafka) as reader:
        assert (await reader.read({"any": [f"missing-{uuid4()}"]})).group_partitions == ()
        assert (await reader.read({})).group_partitions == ()


async def test_lag_reader_reads_many_groups_at_once(kafka: KafkaSettings, topic: str) -> None:
    async with LagReader(kafka) as reader:
        reading = await reader.read_until_known({f"{topic}-{number}": [topic] for number in range(100)})
    assert reading.lag.tolist() == [0] * 400


async def test_lag_seconds_come_from_offset_history(
    kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        await lag_of(reader, topic, topic)
        monkeypatch.setattr(TimestampLookup, "_read", None)  # a lookup in the log would fail
        before_s = time.time()
        await producer.send_and_wait(topic, b"first", partition=0)
        written_s = time.time()
        first = (await reader.read_until_known({topic: [topic]})).since_s[0]
        assert before_s - 0.5 <= first <= written_s + 0.5
        await producer.send_and_wait(topic, b"second", partition=0)
        reading = await reader.read_until_known({topic: [topic]})
        assert reading.since_s[0] == first, "the oldest is as old as before"
        assert reading.lag_s[0] == reading.at_s - first
        async with Consumer(kafka, "test", group=topic) as consumer:
            await consumer.assign(topic, [0])
            consumer.done((await consumer.poll(1))[0])
        assert (await reader.read_until_known({topic: [topic]})).since_s[0] > first


async def test_lag_reader_counts_every_record_of_a_batch(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        for total in (300, 600):
            await asyncio.gather(*[await producer.send(topic, b"x", partition=2) for _ in range(300)])
            found = await lag_of(reader, topic, topic)
            assert [found[number].lag for number in range(4)] == [0, 0, total, 0]
        again = await lag_of(reader, topic, topic)
        assert again[2].lag == 600


async def test_expire_metadata_finds_added_partitions(kafka: KafkaSettings) -> None:
    topic = f"grows-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic, 1)])
    async with LagReader(kafka) as reader:
        await lag_of(reader, topic, topic)
        await ensure_topics(kafka, [TopicSpec(topic, 3)])
        assert sorted(await lag_of(reader, topic, topic)) == [0]
        reader.expire_metadata()
        assert sorted(await lag_of(reader, topic, topic)) == [0, 1, 2]
