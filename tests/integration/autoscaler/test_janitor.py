"""Tests of the janitor on a real Kafka: trimming, alarms, and deletion of abandoned reply topics."""

import asyncio
from uuid import uuid4

import pytest

from autoscaler.janitor.janitor import Janitor
from autoscaler.settings import AutoscalerSettings
from broker.dead_letters.letter import ATTEMPTS, OFFSET, PARTITION, REASON, TOPIC
from broker.delivery.consumer import Consumer
from broker.kafka.admin import open_librdkafka_admin, read_configs, set_configs
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_task_topics, ensure_topics
from broker.kafka.types import TopicPartition
from broker.lag.reader import LagObservation, LagReader
from broker.producing.producer import Producer
from broker.replies import request_reply
from broker.replies.request_reply import RETENTION_MS, RequestReply
from broker.topic_logs import bytes_on_disk, delete_before, topic_ends, topic_names
from schemas.rows.samples import AlarmKind
from schemas.topics import DEAD_LETTERS, REPLIES, SELECTOR_GROUP, reply_topic, task_topic
from store.builds import get_build, put_build
from store.pool import Pool
from store.samples import topic_alarms
from tests.waiting import read_until


class Stage:
    """Janitor with a task of its own, and commits of the selectors' group."""

    def __init__(self, kafka: KafkaSettings, pool: Pool, reader: LagReader) -> None:
        self.kafka = kafka
        self.reader = reader
        self.topic = task_topic(f"task-{uuid4()}")
        self.reading: LagObservation | None = None
        settings = AutoscalerSettings(topic_alarm_bytes=10_000).model_copy(
            update={"reply_topic_age_s": 1.0, "sweep_interval_s": 60.0}
        )
        self.now_s = 0.0
        self.janitor = Janitor(settings, kafka, pool, lambda: self.reading, can_trim=True, clock=lambda: self.now_s)

    async def send(self, producer: Producer, count: int, value: bytes = b"{}") -> None:
        for _ in range(count):
            await producer.send_and_wait(self.topic, value, partition=0)

    async def commit(self, count: int) -> None:
        async with Consumer(self.kafka, "test", group=SELECTOR_GROUP) as consumer:
            await consumer.assign(self.topic, [0])
            done = 0
            while done < count:
                for record in (await consumer.poll())[: count - done]:
                    consumer.done(record)
                    done += 1
            assert await consumer.commit()

    async def lags(self) -> list[int]:
        await self.read()
        assert self.reading is not None
        return self.reading.lag.tolist()

    async def read(self) -> None:
        self.reading = await self.reader.read_until_known({SELECTOR_GROUP: [self.topic]})

    async def begins(self, producer: Producer) -> int:
        """Return the offset of the first record left, as a new group reads it."""
        async with Consumer(self.kafka, "test", group=f"test-{uuid4()}") as consumer:
            await consumer.assign(self.topic, [0])
            return (await consumer.poll(1))[0].offset


async def test_trim_deletes_only_committed_records(kafka: KafkaSettings, store_pool: Pool) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        stage = Stage(kafka, store_pool, reader)
        await ensure_task_topics(kafka, stage.topic.removeprefix(task_topic("")), 2)
        await stage.send(producer, 10)
        await stage.janitor.trim()
        await stage.read()
        await stage.janitor.trim()
        assert await stage.begins(producer) == 0, "nobody has committed anything"
        await stage.commit(4)
        await stage.janitor.trim()
        assert await stage.begins(producer) == 0, "by the last reading nothing was done"
        await stage.read()
        await stage.janitor.trim()
        assert await stage.begins(producer) == 4
        await stage.commit(6)
        await stage.read()
        await stage.janitor.trim()
        await stage.read()
        assert stage.reading is not None
        assert (stage.reading.lag.tolist(), stage.reading.lost.tolist()) == ([0, 0], [0, 0])
        await stage.send(producer, 1)
        assert await stage.begins(producer) == 10


@pytest.mark.parametrize("read", [True, False])
async def test_janitor_frees_disk_of_an_idle_task(quick_kafka: KafkaSettings, store_pool: Pool, *, read: bool) -> None:
    kafka = quick_kafka
    async with (
        Producer(kafka, "test") as producer,
        LagReader(kafka) as reader,
        open_librdkafka_admin(kafka) as admin,
        asyncio.TaskGroup() as tasks,
    ):
        stage = Stage(kafka, store_pool, reader)
        await ensure_task_topics(kafka, stage.topic.removeprefix(task_topic("")), 1)
        await set_configs(admin, {stage.topic: {"segment.ms": "100", "file.delete.delay.ms": "100"}})
        await stage.send(producer, 8, b"x" * 1024 * 1024)
        await stage.commit(8)
        reading = tasks.create_task(_read_on(kafka, stage.topic)) if read else None

        async def size() -> int:
            await stage.read()
            await stage.janitor.trim()
            await stage.janitor.sweep()
            return (await bytes_on_disk(kafka, [stage.topic]))[TopicPartition(stage.topic, 0)]

        await read_until(size, lambda found: found < 1024 * 1024)
        await read_until(stage.lags, lambda lags: lags == [0])
        await stage.send(producer, 1, b"new")
        await (stage.commit(1) if reading is None else read_until(stage.lags, lambda lags: lags == [0]))
        if reading is not None:
            reading.cancel()
    assert stage.reading is not None
    assert stage.reading.lost.tolist() == [0]


async def _read_on(kafka: KafkaSettings, topic: str) -> None:
    async with Consumer(kafka, "reader", group=SELECTOR_GROUP) as consumer:
        await consumer.assign(topic, [0])
        while True:
            for record in await consumer.poll():
                consumer.done(record)


async def test_correct_updates_topics_of_an_older_version(kafka: KafkaSettings, store_pool: Pool) -> None:
    await ensure_system_topics(kafka)
    async with LagReader(kafka) as reader, open_librdkafka_admin(kafka) as admin:
        stage = Stage(kafka, store_pool, reader)
        await ensure_topics(kafka, [TopicSpec(stage.topic)])

        async def kept_ms() -> list[str | None]:
            found = await read_configs(admin, [stage.topic, DEAD_LETTERS])
            return [found[topic]["retention.ms"] for topic in (stage.topic, DEAD_LETTERS)]

        await set_configs(admin, {topic: {"retention.ms": "3600000"} for topic in (stage.topic, DEAD_LETTERS)})
        await read_until(kept_ms, lambda kept: kept == ["3600000", "3600000"])  # it reaches the broker after a moment
        await stage.janitor.correct()
        await read_until(kept_ms, lambda kept: kept == ["-1", str(kafka.dead_letter_retention_ms)])


async def test_delete_before_skips_failed_partitions(kafka: KafkaSettings, caplog: pytest.LogCaptureFixture) -> None:
    topic, missing = task_topic(f"task-{uuid4()}"), task_topic(f"missing-{uuid4()}")
    await ensure_topics(kafka, [TopicSpec(topic, 2)])
    async with Producer(kafka, "test") as producer:
        for _ in range(3):
            await producer.send_and_wait(topic, b"x", partition=1)
        wanted = {TopicPartition(missing, 0): 1, TopicPartition(topic, 0): 9, TopicPartition(topic, 1): 2}
        assert await delete_before(kafka, wanted) == {TopicPartition(topic, 1)}
        assert f"{topic} 0 keeps its records: Kafka refused: Broker: Offset out of range" in caplog.text
        assert await topic_ends(kafka, [topic, missing]) == {topic: 3}


async def test_sweep_raises_alarm_while_topic_is_too_large(
    kafka: KafkaSettings, store_pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        stage = Stage(kafka, store_pool, reader)
        await ensure_topics(kafka, [TopicSpec(stage.topic)])

        async def alarms() -> dict[AlarmKind, int]:
            for _ in range(2):
                await stage.janitor.sweep()
            return {alarm.kind: alarm.amount for alarm in await topic_alarms(store_pool) if alarm.topic == stage.topic}

        assert await alarms() == {}
        await stage.send(producer, 2, b"x" * 6000)
        assert 12_000 < (await alarms())[AlarmKind.LARGE] < 20_000
        assert caplog.text.count(f"{stage.topic} takes 12") == 1
        await delete_topics(kafka, [stage.topic])
        await read_until(alarms, lambda found: not found)


async def test_sweep_raises_alarm_for_dead_letters_near_their_bound(
    kafka: KafkaSettings, store_pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await ensure_system_topics(kafka)
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        letter = {TOPIC: b"a", PARTITION: b"0", OFFSET: b"0", REASON: b"tried", ATTEMPTS: b"1"}
        await producer.send_and_wait(DEAD_LETTERS, b"x" * 2000, headers=list(letter.items()))
        size = (await bytes_on_disk(kafka, [DEAD_LETTERS]))[TopicPartition(DEAD_LETTERS, 0)]

        async def alarms(bound: int) -> list[int]:
            settings = kafka.model_copy(update={"dead_letter_retention_bytes": bound})
            await Stage(settings, store_pool, reader).janitor.sweep()
            return [alarm.amount for alarm in await topic_alarms(store_pool) if alarm.topic == DEAD_LETTERS]

        assert await alarms(100 * size) == []
        (found,) = await alarms(size)
        assert found >= size
        assert "see `infaas dead-letters`" in caplog.text


async def test_sweep_deletes_abandoned_reply_topics_and_old_builds(
    kafka: KafkaSettings, store_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reply, "CLAIM_INTERVAL_S", 0.1)
    dead = reply_topic(f"dead-{uuid4()}")
    await ensure_topics(kafka, [TopicSpec(dead, 1, RETENTION_MS)])
    async with LagReader(kafka) as reader, RequestReply(kafka, f"idle-{uuid4()}") as idle:
        stage = Stage(kafka, store_pool, reader)
        for name in ("recent", "old"):
            await put_build(store_pool, name, "neuron", {}, 1)
        await store_pool.execute("UPDATE builds SET changed_at = now() - interval '2 days' WHERE id = 'old'")
        await stage.janitor.sweep()
        assert [await get_build(store_pool, name) is None for name in ("recent", "old")] == [False, True]
        before = await topic_ends(kafka, [idle.reply_topic])
        await read_until(lambda: topic_ends(kafka, [idle.reply_topic]), lambda ends: ends != before)
        stage.now_s = 30.0  # seconds without a record in the dead client's topic
        await stage.janitor.sweep()
        there = await read_until(lambda: topic_names(kafka, REPLIES), lambda names: dead not in names)
        assert idle.reply_topic in there
    # Kafka deletes a topic some time after it acknowledged.
    await read_until(lambda: topic_names(kafka, REPLIES), lambda names: idle.reply_topic not in names)
