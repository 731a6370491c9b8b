"""Lag in records and seconds; what is not known is not zero."""

import asyncio
from uuid import uuid4

import pytest

from broker.consumer import Consumer
from broker.lag import LagReader, PartitionLag
from broker.producer import Producer
from broker.settings import KafkaSettings


async def lag_of(reader: LagReader, group: str, topic: str) -> dict[int, PartitionLag]:
    return {row.partition: row for row in await reader.read({group: [topic]})}


async def test_lag_follows_what_is_committed(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        for number in range(6):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
        never = await lag_of(reader, topic, topic)
        assert sorted(never) == [0, 1, 2, 3]
        assert (never[0].end, never[0].committed, never[0].lag) == (6, None, 6)
        assert (never[1].end, never[1].committed, never[1].lag, never[1].lag_s) == (0, None, 0, 0.0)

        async with Consumer(kafka, "test", group=topic) as consumer:
            await consumer.assign(topic, [0])
            for record in (await consumer.batch(4))[:4]:
                consumer.done(record)
            assert await consumer.commit()
        some = (await lag_of(reader, topic, topic))[0]
        assert (some.end, some.committed, some.lag) == (6, 4, 2)
        assert some.lag_s is not None
        assert some.lag_s < 30
        await asyncio.sleep(0.1)
        later = (await lag_of(reader, topic, topic))[0]
        assert later.lag_s is not None
        assert later.lag_s >= some.lag_s + 0.1


async def test_groups_at_different_offsets_of_one_partition(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        await producer.send_and_wait(topic, b"old", partition=0)
        await asyncio.sleep(0.3)
        await producer.send_and_wait(topic, b"new", partition=0)
        async with Consumer(kafka, "test", group=topic) as consumer:
            await consumer.assign(topic, [0])
            consumer.done((await consumer.batch(1))[0])
        rows = await reader.read({topic: [topic], f"other-{topic}": [topic]})
        lags = {(row.group, row.partition): row for row in rows}
        mine, others = lags[topic, 0], lags[f"other-{topic}", 0]
        assert (mine.lag, others.lag) == (1, 2)
        assert mine.lag_s is not None
        assert others.lag_s is not None
        assert others.lag_s - mine.lag_s >= 0.25


@pytest.mark.apache
async def test_a_topic_that_does_not_exist_has_no_rows(apache_kafka: KafkaSettings) -> None:
    async with LagReader(apache_kafka) as reader:
        assert await reader.read({"any": [f"missing-{uuid4()}"]}) == []
        assert await reader.read({}) == []


async def test_many_groups_in_one_reading(kafka: KafkaSettings, topic: str) -> None:
    async with LagReader(kafka) as reader:
        rows = await reader.read({f"{topic}-{number}": [topic] for number in range(100)})
    assert len(rows) == 400
    assert {row.lag for row in rows} == {0}
