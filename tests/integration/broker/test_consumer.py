"""Tests of the consumer: watermarks, commits, limits and assignments."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import uvloop
from aiokafka import TopicPartition

from broker.delivery.committer import SharedCommitters
from broker.delivery.consumer import Consumer
from broker.delivery.group import Coordinator
from broker.fetch.read_connection import ReadConnection
from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Producer
from tests.integration.broker.records import read
from tests.waiting import PATIENCE_S, read_until


async def write(kafka: KafkaSettings, topic: str, partition: int, count: int) -> None:
    async with Producer(kafka, "test") as producer:
        for number in range(count):
            await (await producer.send(topic, b"%d" % number, partition=partition))


async def committed(kafka: KafkaSettings, group: str, topic: str, partition: int) -> int:
    async with open_admin(kafka) as admin:
        wanted = TopicPartition(topic, partition)
        return (await admin.list_consumer_group_offsets(group, partitions=[wanted]))[wanted].offset


async def test_consumer_resumes_at_watermark_after_out_of_order_done(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 1, 10)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [1])
        for record in await read(consumer, 10):
            if record.offset not in (3, 7):
                consumer.done(record)
    assert await committed(kafka, topic, topic, 1) == 3
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [1])
        assert consumer.position(1) == 3
        assert [record.offset for record in await read(consumer, 7)] == [3, 4, 5, 6, 7, 8, 9]
        assert consumer.position(1) == 10
        assert consumer.end(1) == 10


async def test_consumer_commits_in_background(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 3)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        for record in await read(consumer, 3):
            consumer.done(record)
        await until_committed(kafka, topic, 3)


async def test_poll_stops_at_max_in_flight_until_a_quarter_is_done(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 20)
    async with Consumer(kafka, "test", group=topic, max_in_flight=8) as consumer:
        await consumer.assign(topic, [0])
        out = await read(consumer, 8)
        assert consumer.in_flight == 8
        more = asyncio.ensure_future(consumer.poll())
        consumer.done(out[0])
        assert not (await asyncio.wait({more}, timeout=0.3))[0]
        consumer.done(out[1])
        async with asyncio.timeout(PATIENCE_S):
            assert [record.offset for record in await more] == [8, 9]
        assert consumer.in_flight == 8


async def test_assign_continues_kept_partitions_without_loss(kafka: KafkaSettings, topic: str) -> None:
    for partition in (0, 1, 2):
        await write(kafka, topic, partition, 6)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0, 1])
        first = await consumer.poll(max_records=4)
        for record in first:
            if record.partition == 1:
                consumer.done(record)
        await consumer.assign(topic, [0, 2], drain_s=0.1)
        second = await read(consumer, 12 - sum(record.partition == 0 for record in first))
        kept = [record.offset for record in [*first, *second] if record.partition == 0]
        assert kept == [0, 1, 2, 3, 4, 5]
        assert [record.offset for record in second if record.partition == 2] == [0, 1, 2, 3, 4, 5]
        assert not [record for record in second if record.partition == 1]
        # A late `done` for a dropped partition has no effect.
        before = consumer.in_flight
        for record in first:
            if record.partition == 1:
                consumer.done(record)
        assert consumer.in_flight == before


async def test_assign_drains_and_commits_dropped_partition(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 5)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        out = await read(consumer, 5)
        dropping = asyncio.ensure_future(consumer.assign(topic, [1], drain_s=10))
        for record in out:
            await asyncio.sleep(0)
            assert not dropping.done()
            consumer.done(record)
        async with asyncio.timeout(PATIENCE_S):
            await dropping
        assert consumer.in_flight == 0
        assert await committed(kafka, topic, topic, 0) == 5


async def test_drained_waits_for_the_last_record(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 2)
    await write(kafka, topic, 1, 2)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0, 1])
        *others, last = await read(consumer, 4)
        waiting = asyncio.ensure_future(consumer.drained())
        for record in others:
            consumer.done(record)
        await asyncio.sleep(0)
        assert not waiting.done()
        consumer.done(last)
        async with asyncio.timeout(PATIENCE_S):
            await waiting


async def test_poll_before_assign_gets_records(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 3, 1)
    async with Consumer(kafka, "test", group=topic) as consumer:
        waiting = asyncio.ensure_future(consumer.poll())
        await asyncio.sleep(0)
        assert not waiting.done()
        await consumer.assign(topic, [3])
        async with asyncio.timeout(PATIENCE_S):
            assert len(await waiting) == 1


async def test_done_twice_counts_once(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 3)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        out = await read(consumer, 3)
        consumer.done(out[1])
        consumer.done(out[1])
        assert consumer.in_flight == 2
        assert await consumer.commit()
        assert await committed(kafka, topic, topic, 0) == -1, "the first record is not done"
        consumer.done(out[0])
        assert await consumer.commit()
        assert await committed(kafka, topic, topic, 0) == 2


async def test_leave_out_skips_topics_until_called_again(kafka: KafkaSettings, topic: str) -> None:
    flood, other = f"{topic}-flood", f"{topic}-other"
    await ensure_topics(kafka, [TopicSpec(flood), TopicSpec(other)])
    await write(kafka, flood, 0, 100)
    async with Consumer(kafka, "test", group=topic) as consumer, asyncio.timeout(PATIENCE_S):
        await consumer.subscribe([flood, other])
        first = await consumer.poll(1)
        assert (first[0].topic, first[0].offset) == (flood, 0)
        async with asyncio.TaskGroup() as tasks:
            consumer.leave_out({flood})
            reading = tasks.create_task(consumer.poll())
            await write(kafka, other, 0, 1)
            assert {record.topic for record in await reading} == {other}
            reading = tasks.create_task(consumer.poll(1))
            await asyncio.sleep(0)
            consumer.leave_out(())
            assert [(record.topic, record.offset) for record in await reading] == [(flood, 1)]


async def test_rest_delays_the_next_fetch(kafka: KafkaSettings, topic: str) -> None:
    loop = asyncio.get_running_loop()
    async with Producer(kafka, "test") as producer, Consumer(kafka, "resting", group=topic) as consumer:
        await consumer.assign(topic, [0])
        await (await producer.send(topic, b"first", partition=0))
        (first,) = await consumer.poll()
        consumer.rest(PATIENCE_S)  # at once, before the next fetch is sent
        for value in (b"a", b"b", b"c"):
            await (await producer.send(topic, value, partition=0))
        began = loop.time()
        consumer.rest(0.5)
        found = await consumer.poll()
        assert first.value == b"first"
        assert loop.time() - began >= 0.5
        assert [record.value for record in found] == [b"a", b"b", b"c"]


def test_rest_ends_on_loop_with_early_timers(kafka: KafkaSettings) -> None:
    """uvloop, the loop of the services, counts whole milliseconds, so its timers may fire early."""

    async def reads_on() -> None:
        topic = f"test-{uuid4()}"
        await ensure_topics(kafka, [TopicSpec(topic)])
        async with Producer(kafka, "test") as producer, Consumer(kafka, "resting", group=topic) as consumer:
            await consumer.assign(topic, [0])
            for number in range(15):
                await producer.send_and_wait(topic, b"%d" % number, partition=0)
                async with asyncio.timeout(PATIENCE_S):
                    (record,) = await consumer.poll()
                assert record.offset == number
                time.sleep(0.06)  # noqa: ASYNC251 - blocks the loop for longer than any timer, as a selection may
                consumer.rest(0.0021 + number / 9e3)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(reads_on())


async def test_give_back_excludes_record_from_drain_and_commit(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 6)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        records = await read(consumer, 6)
        for record in records:
            consumer.give_back(record) if record.offset in (2, 4) else consumer.done(record)
        async with asyncio.timeout(PATIENCE_S):
            await consumer.drained()
    assert await committed(kafka, topic, topic, 0) == 2
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        assert [record.offset for record in await read(consumer, 4)] == [2, 3, 4, 5]


async def test_assign_resumes_after_empty_assignment(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 3)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        for record in await read(consumer, 3):
            consumer.done(record)
        await consumer.assign(topic, [])
        await write(kafka, topic, 0, 1)
        await consumer.assign(topic, [0])
        assert [record.offset for record in await read(consumer, 1)] == [3]


async def test_idle_consumer_reads_new_partition_at_once(kafka: KafkaSettings) -> None:
    patient = kafka.model_copy(update={"fetch_max_wait_ms": 30_000, "request_timeout_ms": 60_000})
    topic = f"test-{uuid4()}"
    await ensure_topics(kafka, [TopicSpec(topic, 2)])
    async with Consumer(patient, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        waiting = asyncio.ensure_future(consumer.poll())
        await asyncio.wait({waiting}, timeout=0.5)  # the broker holds a fetch now
        async with asyncio.timeout(PATIENCE_S):  # shorter than the broker holds the fetch
            await consumer.assign(topic, [0, 1])
            await write(kafka, topic, 1, 1)
            assert [(record.partition, record.offset) for record in await waiting] == [(1, 0)]


async def until_committed(kafka: KafkaSettings, group: str, offset: int) -> None:
    await read_until(lambda: committed(kafka, group, group, 0), lambda found: found == offset)


async def test_consumer_recommits_after_late_commit_of_predecessor(
    kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.delivery.committer.HEAL_INTERVAL_S", 0.2)
    await write(kafka, topic, 0, 5)
    async with Consumer(kafka, "before", group=topic) as before, Consumer(kafka, "after", group=topic) as after:
        await before.assign(topic, [0])
        late = await read(before, 5)
        await after.assign(topic, [0])
        for record in await read(after, 5):
            after.done(record)
        await until_committed(kafka, topic, 5)
        for record in late[:2]:
            before.done(record)
        assert await before.commit()
        await until_committed(kafka, topic, 5)


async def test_lose_discards_uncommitted_offsets(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 2)
    async with Consumer(kafka, "test", group=topic) as consumer:
        await consumer.assign(topic, [0])
        for record in await read(consumer, 2):
            consumer.done(record)
        consumer.lose([0])
        assert await consumer.commit()
        assert consumer.in_flight == 0
        await consumer.assign(topic, [0])
        assert [record.offset for record in await read(consumer, 2)] == [0, 1]


async def test_commit_waits_until_may_commit(kafka: KafkaSettings, topic: str) -> None:
    await write(kafka, topic, 0, 2)
    ours = False
    async with (
        ReadConnection(kafka, "test") as over,
        SharedCommitters(over.client, "test", PATIENCE_S, lambda: ours) as committers,
        Consumer(kafka, "test", group=topic, committers=committers, over=over) as consumer,
    ):
        await consumer.assign(topic, [0])
        for record in await read(consumer, 2):
            consumer.done(record)
        assert not await consumer.commit()
        assert await committed(kafka, topic, topic, 0) == -1
        ours = True
        await until_committed(kafka, topic, 2)


async def test_shared_committers_commit_consumers_in_one_request(
    kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, topics = f"{topic}-shared", [topic, f"{topic}-b"]
    await ensure_topics(kafka, [TopicSpec(topics[1])])
    sent, commit = list[set[str]](), Coordinator.commit

    async def noted(self: Coordinator, offsets: Mapping[TopicPartition, int], note: str) -> None:
        sent.append({partition.topic for partition in offsets})
        await commit(self, offsets, note)

    monkeypatch.setattr(Coordinator, "commit", noted)
    for name in topics:
        await write(kafka, name, 0, 2)
    async with shared_consumers(kafka, group) as (first, second):
        for consumer, name in zip((first, second), topics, strict=True):
            await consumer.assign(name, [0])
        records = [(consumer, record) for consumer in (first, second) for record in await read(consumer, 2)]
        for consumer, record in records:
            consumer.done(record)
        for name in topics:
            await read_until(lambda name=name: committed(kafka, group, name, 0), lambda found: found == 2)
    assert sent == [set(topics)]


async def test_lost_partition_is_left_out_of_shared_commit(kafka: KafkaSettings, topic: str) -> None:
    group, other = f"{topic}-shared", f"{topic}-b"
    await ensure_topics(kafka, [TopicSpec(other)])
    for name in (topic, other):
        await write(kafka, name, 0, 2)
    async with shared_consumers(kafka, group) as (first, second):
        await first.assign(topic, [0])
        await second.assign(other, [0])
        records = [(consumer, record) for consumer in (first, second) for record in await read(consumer, 2)]
        first.lose([0])
        for consumer, record in records:
            consumer.done(record)
        assert await second.commit()
        assert [await committed(kafka, group, name, 0) for name in (topic, other)] == [-1, 2]


async def test_deleted_topic_does_not_stop_shared_commits(kafka: KafkaSettings, topic: str) -> None:
    group, other = f"{topic}-shared", f"{topic}-b"
    await ensure_topics(kafka, [TopicSpec(other)])
    for name in (topic, other):
        await write(kafka, name, 0, 2)
    async with shared_consumers(kafka, group) as (first, second):
        await first.assign(topic, [0])
        await second.assign(other, [0])
        records = [(consumer, record) for consumer in (first, second) for record in await read(consumer, 2)]
        async with open_admin(kafka) as admin:
            await admin.delete_topics([other])
        for consumer, record in records:
            consumer.done(record)
        await read_until(lambda: committed(kafka, group, topic, 0), lambda found: found == 2)


@asynccontextmanager
async def shared_consumers(kafka: KafkaSettings, group: str) -> AsyncGenerator[tuple[Consumer, Consumer]]:
    """Open two consumers that share a connection and the committer of their group."""
    async with (
        ReadConnection(kafka, "test") as over,
        SharedCommitters(over.client, "test", PATIENCE_S) as committers,
        Consumer(kafka, "first", group=group, committers=committers, over=over) as first,
        Consumer(kafka, "second", group=group, committers=committers, over=over) as second,
    ):
        yield first, second


async def test_on_release_reports_each_partition_once(kafka: KafkaSettings, topic: str) -> None:
    released: list[TopicPartition] = []
    async with Consumer(kafka, "test", group=topic) as consumer:
        consumer.on_release = released.extend
        await consumer.assign(topic, [0, 1, 2])
        await consumer.assign(topic, [0, 1])
        assert released == [TopicPartition(topic, 2)]
        consumer.lose([1])
        assert released == [TopicPartition(topic, 2), TopicPartition(topic, 1)]
        await consumer.assign(topic, [])
        assert released == [TopicPartition(topic, number) for number in (2, 1, 0)]
