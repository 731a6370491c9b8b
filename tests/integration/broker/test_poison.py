"""Tests of unreadable bytes in topics: the records beside them are read, and lost records are counted."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from prometheus_client import REGISTRY

from broker.delivery.consumer import Consumer, Record
from broker.fetch.tail import Tail
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.lag.timestamps import TimestampLookup
from broker.producing.producer import Producer
from tests.integration.broker.raw_batches import batch_of, damage_on_disk, write_batch
from tests.integration.broker.records import read
from tests.waiting import PATIENCE_S


async def finished(consumer: Consumer, count: int) -> list[Record]:
    """Read at least `count` records and finish them."""
    found = await read(consumer, count)
    for record in found:
        consumer.done(record)
    return found


def lost(topic: str, why: str) -> float:
    return REGISTRY.get_sample_value("infaas_records_lost_total", {"topic": topic, "why": why}) or 0.0


POISON = batch_of(
    [
        (b"before", [(b"name", b"good")]),
        (b"poison", [(b"name\xff\xfe", b"kept"), (b"other", b"value")]),
        (b"after", [(b"name", b"good")]),
    ]
)


async def test_consumer_reads_header_names_that_are_not_utf8(kafka: KafkaSettings, topic: str) -> None:
    assert await write_batch(kafka, topic, 0, POISON) == 0
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        found = await finished(consumer, 3)
    assert [record.value for record in found] == [b"before", b"poison", b"after"]
    (name, text), other = found[1].headers
    assert name.encode(errors="surrogateescape") == b"name\xff\xfe"
    assert (text, other) == (b"kept", ("other", b"value"))


async def test_tail_reads_header_names_that_are_not_utf8(kafka: KafkaSettings, topic: str) -> None:
    async with Tail(kafka, "test", [topic]) as tail, asyncio.timeout(PATIENCE_S):
        await write_batch(kafka, topic, 0, POISON)
        assert [(await anext(tail)).value for _ in range(3)] == [b"before", b"poison", b"after"]


async def test_timestamp_lookup_handles_invalid_header_names(kafka: KafkaSettings, topic: str) -> None:
    await write_batch(kafka, topic, 0, POISON)
    lookup, wanted = TimestampLookup(kafka, "test"), (TopicPartition(topic, 0), 1)
    assert await lookup.written_s([wanted]) == {wanted: pytest.approx(time.time(), abs=60)}
    await lookup.aclose()


async def test_consumer_skips_and_counts_damaged_batch(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        for number in range(5):
            await producer.send_and_wait(topic, b"damaged" if number == 2 else b"%d" % number, partition=0)
            await producer.send_and_wait(topic, b"beside", partition=1)
        damage_on_disk(topic, 0, b"damaged")
        async with Consumer(kafka, "test", group=topic) as consumer:
            await consumer.assign(topic, [0, 1])
            found = await finished(consumer, 9)
            await producer.send_and_wait(topic, b"later", partition=0)
            found += await finished(consumer, 1)
            assert consumer.position(0) == 6
    assert [record.value for record in found if record.partition == 0] == [b"0", b"1", b"3", b"4", b"later"]
    assert [record.offset for record in found if record.partition == 1] == [0, 1, 2, 3, 4]
    assert lost(topic, "damaged") == 1


async def test_consumer_counts_records_deleted_before_reading(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        for number in range(10):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
    async with Consumer(kafka, "test", group=topic, max_in_flight=3) as consumer:
        await consumer.assign(topic, [0])
        await finished(consumer, 3)
    async with open_admin(kafka) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(6)})
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        assert [record.offset for record in await finished(consumer, 4)] == [6, 7, 8, 9]
    assert lost(topic, "deleted") == 3


async def test_consumer_rereads_log_that_ends_before_commit(kafka: KafkaSettings, topic: str) -> None:
    async with Producer(kafka, "test") as producer:
        for number in range(4):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=topic, enable_auto_commit=False) as other:
        other.assign([TopicPartition(topic, 0)])
        await other.commit({TopicPartition(topic, 0): 9})
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        assert [record.offset for record in await finished(consumer, 4)] == [0, 1, 2, 3]
    assert lost(topic, "cut") == 5
