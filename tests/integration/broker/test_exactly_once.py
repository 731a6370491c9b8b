"""Tests of exactly-once processing from topic to topic: fencing, and records and markers of transactions."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced

from broker.delivery.exactly_once import OutgoingRecord, PartitionStream, PartitionWriter, SharedTopic
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from schemas.errors import OperatorError
from tests.waiting import PATIENCE_S, read_until, until


@pytest.fixture
async def copied(kafka: KafkaSettings) -> str:
    name = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(name, 4)])
    return name


def outgoing(topic: str, value: bytes) -> OutgoingRecord:
    return OutgoingRecord(topic, 0, None, value, [])


async def committed_values(kafka: KafkaSettings, topic: str) -> list[bytes | None]:
    """Return the committed values of a topic, once all its transactions have ended."""
    every = await settled(kafka, topic)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level="read_committed") as consumer:
        consumer.assign(every)
        await consumer.seek_to_beginning()
        ends, found = await consumer.end_offsets(every), list[bytes | None]()
        async with asyncio.timeout(PATIENCE_S):
            while any([await consumer.position(partition) < ends[partition] for partition in every]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += [record.value for record in records]
    return found


async def settled(kafka: KafkaSettings, topic: str) -> list[TopicPartition]:
    """Return the topic's partitions once all end markers are written, which is shortly after Kafka acknowledges."""
    every = [TopicPartition(topic, number) for number in range(4)]
    async with (
        AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as all_records,
        AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, isolation_level="read_committed") as committed_ones,
    ):

        async def all_marked() -> bool:
            return await committed_ones.end_offsets(every) == await all_records.end_offsets(every)

        await until(all_marked)
    return every


async def test_partition_writer_fences_earlier_writer(kafka: KafkaSettings, topic: str, copied: str) -> None:
    partition = TopicPartition(topic, 0)
    async with PartitionWriter(kafka, "first", topic, partition) as first:
        await first.write([outgoing(copied, b"first")], 1)
        async with PartitionWriter(kafka, "second", topic, partition) as second:
            with pytest.raises(ProducerFenced):
                await first.write([outgoing(copied, b"first again")], 2)
            await second.write([outgoing(copied, b"second")], 2)
            async with SharedTopic(kafka, "test", topic, topic) as shared:
                await read_until(shared.committed, lambda committed: committed == {partition: 2})
    assert await committed_values(kafka, copied) == [b"first", b"second"]


async def test_shared_topic_waits_for_pending_transaction_offsets(
    kafka: KafkaSettings, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    partition, begun = TopicPartition(topic, 0), asyncio.Queue[int]()

    async def note(stream: PartitionStream) -> None:
        if stream.partition == partition:
            begun.put_nowait(stream.begin)
        await asyncio.Event().wait()

    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=str(uuid4())) as other:
        await other.begin_transaction()
        await other.send_offsets_to_transaction({partition: 5}, topic)
        async with SharedTopic(kafka, "test", topic, topic) as shared, asyncio.TaskGroup() as tasks:
            running = tasks.create_task(shared.run(note))
            await until(lambda: "a transaction on the committed offset" in caplog.text or not begun.empty())
            assert begun.empty()
            await other.commit_transaction()
            async with asyncio.timeout(PATIENCE_S):
                assert await begun.get() == 5
            running.cancel()


async def test_partition_writer_aborts_incomplete_write(kafka: KafkaSettings, topic: str, copied: str) -> None:
    async with PartitionWriter(kafka, "test", topic, TopicPartition(topic, 0)) as writer:
        with pytest.raises(AssertionError):  # partition 99 does not exist
            await writer.write([outgoing(copied, b"half"), OutgoingRecord(copied, 99, None, b"", [])], 1)
        await writer.write([outgoing(copied, b"whole")], 1)
    assert await committed_values(kafka, copied) == [b"whole"]


async def test_shared_topic_members_copy_transactional_topic_to_end(
    kafka: KafkaSettings, topic: str, copied: str
) -> None:
    asked = await write_transactions(kafka, topic)

    async with copying(kafka, topic, copied) as first:
        await until(lambda: first.ours == 4)
        async with copying(kafka, topic, copied) as second:
            await until(lambda: (first.ours, second.ours) == (2, 2))
            asked += await write_transactions(kafka, topic)
            ends = await first.ends()
            await read_until(lambda: first.left(ends), lambda left: left == 0)
            assert await first.committed() == ends
    assert sorted(value or b"" for value in await committed_values(kafka, copied)) == sorted(asked)


async def write_transactions(kafka: KafkaSettings, topic: str) -> list[bytes]:
    """Write records in transactions, so that the last offsets are markers; return the committed values."""
    written = list[bytes]()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=str(uuid4())) as producer:
        for number in range(24):
            await producer.begin_transaction()
            value = str(uuid4()).encode()
            await producer.send_and_wait(topic, value, partition=number % 4)
            if number % 3:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
                written.append(value)
    await settled(kafka, topic)
    return written


@asynccontextmanager
async def copying(kafka: KafkaSettings, topic: str, copied: str) -> AsyncGenerator[SharedTopic]:
    """Run a group member that copies the records it reads."""

    async def copy(stream: PartitionStream) -> None:
        position = stream.begin
        while True:
            before = position
            records, position = await stream.read(10)
            if position > before:
                await stream.write([outgoing(copied, record.value or b"") for record in records], position)

    async with SharedTopic(kafka, "test", topic, topic) as shared, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(shared.run(copy))
        yield shared
        running.cancel()


async def test_shared_topic_refuses_embedded_broker(embedded_kafka: KafkaSettings) -> None:
    with pytest.raises(OperatorError, match="infaas up --kafka apache"):
        async with SharedTopic(embedded_kafka, "test", "in", "group"):
            pass


async def test_shared_topic_names_missing_topic(kafka: KafkaSettings) -> None:
    with pytest.raises(OperatorError, match="there is no topic absent-topic"):
        async with SharedTopic(kafka, "test", "absent-topic", "group"):
            pass
