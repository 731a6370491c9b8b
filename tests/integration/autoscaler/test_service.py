"""Tests of the autoscaler on a real broker and a real database."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from autoscaler.decide.decide import decide
from autoscaler.decide.plan import ScalePlan
from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.snapshot_builder import backlogs_of
from autoscaler.observe.status_cache import WorkerStatusCache
from autoscaler.record.recorder import Recorder
from autoscaler.service import serve
from autoscaler.settings import AutoscalerSettings
from broker.delivery.consumer import Consumer
from broker.kafka.client import open_admin
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics, ensure_task_topics, ensure_variant_topics
from broker.lag.reader import LagReader
from broker.producing.producer import Producer
from schemas import topics
from schemas.catalog import Catalog
from schemas.jobs import NewJob
from schemas.load_classes import ClassAnswers, ClassCount, LoadClass, SelectorLoad
from schemas.rows.cluster import Pin, PinKind
from schemas.rows.samples import AlarmKind, GroupHealth
from schemas.status import Demand, InstanceState, InstanceStatus, WorkerStatus
from store import registry, samples
from store.catalog import load_catalog
from store.jobs import mark_sent, put_jobs
from store.placement import heartbeat, list_instances, register_worker
from store.pool import Pool
from store.scaling import put_pin
from store.settings import StoreSettings
from tests.example_rows import a_profile, a_task, a_variant, a_worker, an_architecture, until_led_by
from tests.processes import service, variables_of
from tests.store_queries import instances_since, lag_since, load_since, workers_since
from tests.waiting import until

SOON_S = 60.0
SETTINGS = AutoscalerSettings(interval_s=0.2, trim_interval_s=0.2, leader_grace_s=0.5, status_ttl_s=0.5)


@pytest.fixture
def task() -> str:
    return f"task-{uuid4().hex[:12]}"


async def register(pool: Pool, kafka: KafkaSettings, task: str, accuracies: dict[str, float]) -> list[str]:
    """Register a task with a variant per accuracy; a more accurate one is faster, so the best dominates the rest."""
    await ensure_system_topics(kafka)
    await ensure_task_topics(kafka, task, 2)
    names = [f"{task}-{letter}.onnx-fp32.cpu" for letter in accuracies]
    await ensure_variant_topics(kafka, [(name, 2) for name in names])
    await registry.put_task(pool, a_task(task, partitions=2))
    for name, accuracy in zip(names, accuracies.values(), strict=True):
        await registry.put_architecture(pool, an_architecture(name.split(".")[0], task))
        await registry.put_variant(
            pool, a_variant(name, task, partitions=2), a_profile(name, accuracy, 0.01 / accuracy)
        )
    return names


@asynccontextmanager
async def running(kafka: KafkaSettings, dsn: str) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    store = StoreSettings.model_validate({"INFAAS_POSTGRES": dsn})
    async with asyncio.timeout(200), asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(SETTINGS, kafka, store, stop))
        try:
            yield
        finally:
            stop.set()


async def placed(pool: Pool) -> dict[str, str]:
    return {row.variant: row.worker for row in await list_instances(pool)}


async def test_recorder_records_lag_and_load(kafka: KafkaSettings, store_pool: Pool, task: str) -> None:
    [variant] = await register(store_pool, kafka, task, {"a": 0.9})
    catalog, statuses = await load_catalog(store_pool), WorkerStatusCache(time.monotonic, 1.0)
    window = LoadWindow(statuses)
    topic, queue = topics.task_topic(task), topics.variant_topic(variant)
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        recorder = Recorder(SETTINGS, reader, store_pool, statuses, window)
        recorder.answer_times.add({task: {12: 7}})
        await until(lambda: all_known(recorder, catalog, store_pool))
        started = datetime.now(UTC)
        for i in range(10):
            await producer.send_and_wait(topic, b"{}", partition=i % 2)
        await producer.send_and_wait(queue, b"{}", partition=1)
        await producer.send_and_wait(topics.offline_topic(task), b"{}", partition=1)
        await commit(kafka, topic, 4)
        window.on_load(a_load(task, 5), time.monotonic())
        window.on_load(a_load(task, 6), time.monotonic())
        for late in (0, 1):
            window.on_answers([ClassAnswers(LoadClass(task, None, 0.5), 3, late)])
        window.on_answers([ClassAnswers(LoadClass(task), 4, failed=4)])
        await recorder.record(catalog, [variant])
    waiting = backlogs_of(recorder.waiting, catalog.tasks, catalog.variants.values(), window.mean_inputs())
    assert sorted((one.variant or "", one.offline, one.inputs) for one in waiting) == [
        ("", False, 6 * 2.0), ("", True, 2.0), (variant, False, 2.0),
    ]  # fmt: skip
    assert all(one.age_s is not None and one.age_s < 60 for one in waiting)
    found = {(row.topic, row.partition): row for row in await samples.latest_lag(store_pool)}
    by_topic = [found[topic, 0], found[topic, 1]]
    assert sorted((row.end_offset, row.committed, row.lag) for row in by_topic) == [(5, 1, 4), (5, 3, 2)]
    assert all(row.lag_s is not None and 0 <= row.lag_s < 60 for row in by_topic)
    assert (found[queue, 0].lag, found[queue, 0].lag_s) == (0, 0.0)
    assert (found[queue, 1].lag, found[queue, 1].committed) == (1, None)
    assert {row.health for row in found.values()} == {GroupHealth.OK}, "it is too early to say anything worse"
    changed = {(row.topic, row.partition) for row in await lag_since(store_pool, started)}
    assert (queue, 0) not in changed, "what is as it was is not written again"
    load = await load_since(store_pool, started)
    assert {row.min_accuracy: (row.queries, row.inputs, row.answered, row.late, row.failed) for row in load} == {
        0.5: (11, 22, 6, 1, 0),
        0.0: (0, 0, 4, 0, 4),
    }
    times = await samples.task_answer_times(store_pool, 60)
    assert times == [samples.TaskAnswerTimes(task=task, buckets=[12], counts=[7])]
    assert list(statuses.demand_age_s()) == []


async def test_recorder_reads_offline_work_with_a_deadline(kafka: KafkaSettings, store_pool: Pool, task: str) -> None:
    await register(store_pool, kafka, task, {"a": 0.9})
    catalog, statuses = await load_catalog(store_pool), WorkerStatusCache(time.monotonic, 1.0)
    job = NewJob(
        id="j", model=task, task=task, offline=True, headers={}, request=b"{}", deadline_s=5400.0, fingerprint=b"f"
    )
    await put_jobs(store_pool, [[job, msgspec.structs.replace(job, id="k")]])
    await mark_sent(store_pool, ["k"])
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader:
        for _ in range(4):  # the query of a job, and three without a deadline
            await producer.send_and_wait(topics.offline_topic(task), b"{}", partition=1)
        recorder = Recorder(SETTINGS, reader, store_pool, statuses, LoadWindow(statuses))
        await until(lambda: all_known(recorder, catalog, store_pool))
    waiting = backlogs_of(recorder.waiting, catalog.tasks, catalog.variants.values(), {}, recorder.dated)
    undated, dated = sorted(waiting, key=lambda one: one.left_s is not None)
    assert (undated.offline, undated.inputs, dated.offline, dated.inputs) == (True, 3.0, True, 2.0)
    assert dated.left_s is not None
    assert 0 < dated.left_s < 5400


async def test_recorder_counts_lost_records_once_with_an_alarm(
    kafka: KafkaSettings, store_pool: Pool, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    await register(store_pool, kafka, task, {"a": 0.9})
    catalog, statuses = await load_catalog(store_pool), WorkerStatusCache(time.monotonic, 1.0)
    topic = topics.task_topic(task)
    async with Producer(kafka, "test") as producer, LagReader(kafka) as reader, open_admin(kafka) as admin:
        for i in range(10):
            await producer.send_and_wait(topic, b"{}", partition=i % 2)
        await commit(kafka, topic, 4)  # 1 of 5 records of partition 0, 3 of 5 of partition 1
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(5)})
        for _leader in range(2):
            recorder = Recorder(SETTINGS, reader, store_pool, statuses, LoadWindow(statuses))
            for _ in range(2):
                await recorder.record(catalog, [])
            assert recorder.known
    found = {row.partition: row for row in await samples.latest_lag(store_pool) if row.topic == topic}
    assert (found[0].committed, found[0].lag, found[0].health) == (1, 0, GroupHealth.LOST)
    assert (found[1].lag, found[1].health) == (2, GroupHealth.OK)
    alarms = {alarm.topic: (alarm.kind, alarm.amount) for alarm in await samples.topic_alarms(store_pool)}
    assert alarms == {topic: (AlarmKind.LOST, 4)}
    assert caplog.text.count(f"4 records of {topic}/0 were deleted before group infaas.selector committed them") == 1


async def all_known(recorder: Recorder, catalog: Catalog, pool: Pool) -> bool:
    """Take a reading; return true if every lag is known. New partitions may have no leader yet."""
    await recorder.record(catalog, [])
    latest = await samples.latest_lag(pool)
    return recorder.known and bool(latest) and all(row.lag is not None for row in latest)


def a_load(task: str, queries: int) -> SelectorLoad:
    count = ClassCount(load_class=LoadClass(task, None, 0.5), queries=queries, inputs=2 * queries)
    return SelectorLoad(selector="s", at_ms=time.time() * 1e3, classes=(count,))


async def commit(kafka: KafkaSettings, topic: str, count: int) -> None:
    """Commit `count` records as the selectors' group: one of partition 0, the others of partition 1."""
    async with Consumer(kafka, "test", group=topics.SELECTOR_GROUP) as consumer:
        await consumer.assign(topic, [0, 1])
        wanted, got = {0: 1, 1: count - 1}, list[int]()
        while len(got) < count:
            for record in await consumer.poll():
                if wanted[record.partition]:
                    wanted[record.partition] -= 1
                    got.append(record.offset)
                    consumer.done(record)
        await consumer.commit()


async def test_recorder_takes_failed_reading_as_unknown(
    tmp_path: Path, store_pool: Pool, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with ApacheKafka(tmp_path) as broker:
        kafka = impatient(broker.settings)
        await register(store_pool, broker.settings, task, {"a": 0.9})
        catalog = await load_catalog(store_pool)
        async with LagReader(kafka) as reader:
            statuses = WorkerStatusCache(time.monotonic, 1.0)
            recorder = Recorder(SETTINGS, reader, store_pool, statuses, LoadWindow(statuses))
            await until(lambda: all_known(recorder, catalog, store_pool))
            before = await samples.latest_lag(store_pool)
            caplog.clear()  # on a busy machine, earlier readings may have failed
            await broker.__aexit__(None, None, None)
            for _ in range(2):
                await recorder.record(catalog, [])
                assert not recorder.known
    assert await samples.latest_lag(store_pool) == before
    assert await samples.reading_error(store_pool)
    # The code that opens connections logs an outage once per process; its consequences are not logged.
    assert caplog.text.count(f"Kafka does not answer at {broker.settings.bootstrap}") == 1
    assert "scaling is suspended" not in caplog.text


def impatient(settings: KafkaSettings) -> KafkaSettings:
    return settings.model_copy(update={"request_timeout_ms": 1000})


async def test_autoscaler_places_best_variant_and_replaces_dead_worker(
    kafka: KafkaSettings, database: str, store_pool: Pool, task: str
) -> None:
    async with running(kafka, database), keeping_alive(store_pool, "cpu-0") as kill:
        best, beaten = await register(store_pool, kafka, task, {"a": 0.9, "b": 0.8})
        await until(lambda: is_placed(store_pool, {best: "cpu-0"}))
        await register_worker(store_pool, a_worker("cpu-1"))
        async with keeping_alive(store_pool, "cpu-1"):
            kill()
            await until(lambda: is_placed(store_pool, {best: "cpu-1"}))
            [row] = await list_instances(store_pool)
            assert row.partitions == (0, 1)
            assert "cpu-0 no longer serves it" in row.reason
    decisions = await samples.list_decisions(store_pool)
    assert {row.variant for row in decisions} == {best}
    assert beaten not in await placed(store_pool)
    assert [row.action for row in decisions if row.worker == "cpu-1"] == ["replace"]
    assert all(row.reason for row in decisions)
    assert decisions[-1].inputs["accuracy"] == 0.9


async def is_placed(pool: Pool, wanted: dict[str, str]) -> bool:
    return await placed(pool) == wanted


@asynccontextmanager
async def keeping_alive(pool: Pool, worker: str) -> AsyncGenerator[Callable[[], None]]:
    """Send heartbeats of a worker until the yielded function is called; the last one is then dated a minute back."""
    epoch = await register_worker(pool, a_worker(worker))
    dead = asyncio.Event()

    async def beat() -> None:
        while not dead.is_set():
            await heartbeat(pool, worker, epoch)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await dead.wait()
        await pool.execute("UPDATE workers SET heartbeat_at = now() - interval '1 minute' WHERE name = $1", worker)
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(beat())
        yield dead.set
        beating.cancel()


async def test_autoscaler_records_lag_during_a_slow_decision(
    kafka: KafkaSettings, store_pool: Pool, database: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(store_pool, kafka, task, {"a": 0.9})
    deciding, done = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> ScalePlan:
        deciding.set()
        assert done.wait(SOON_S)
        return decide(*arguments)

    monkeypatch.setattr("autoscaler.decide.planner.decide", slow)
    async with running(kafka, database):
        try:
            await until(deciding.is_set)
            began = datetime.now(UTC)

            async def recorded() -> bool:
                return any(row.at > began for row in await samples.latest_lag(store_pool))

            await until(recorded, SOON_S / 2)
        finally:
            done.set()


async def test_autoscaler_places_demanded_variant(
    kafka: KafkaSettings, database: str, store_pool: Pool, task: str
) -> None:
    best, beaten = await register(store_pool, kafka, task, {"a": 0.9, "b": 0.8})
    async with running(kafka, database), keeping_alive(store_pool, "cpu-0"), Producer(kafka, "test") as producer:
        await until(lambda: is_placed(store_pool, {best: "cpu-0"}))
        demand = Demand(task=task, variant=beaten, at_ms=time.time() * 1000, reason="min accuracy")
        await producer.send_and_wait(topics.DEMAND, b"not JSON")
        await producer.send_and_wait(topics.DEMAND, msgspec.json.encode(demand))
        await until(lambda: is_placed(store_pool, {best: "cpu-0", beaten: "cpu-0"}))


async def test_autoscaler_adds_variant_partitions_for_replicas(
    kafka: KafkaSettings, database: str, store_pool: Pool, task: str
) -> None:
    [variant] = await register(store_pool, kafka, task, {"a": 0.9})

    async def shared() -> bool:
        rows = await list_instances(store_pool)
        return len(rows) == 3 and sorted(p for row in rows for p in row.partitions) == [0, 1, 2, 3]

    await put_pin(store_pool, Pin(kind=PinKind.VARIANT, name=variant, minimum=3, pinned_by="test"))
    async with AsyncExitStack() as stack:
        for number in range(3):
            await stack.enter_async_context(keeping_alive(store_pool, f"cpu-{number}"))
        await stack.enter_async_context(running(kafka, database))
        await until(shared)
    assert (await load_catalog(store_pool)).variants[variant].partitions == 4
    await ensure_variant_topics(kafka, [(variant, 4)])


async def test_autoscaler_adds_task_partitions_for_selectors(
    kafka: KafkaSettings, database: str, store_pool: Pool, task: str
) -> None:
    await register(store_pool, kafka, task, {"a": 0.9})

    async def grown() -> bool:
        for number in range(3):
            said = SelectorLoad(selector=f"selector-{number}", at_ms=time.time() * 1000, classes=(), variants={})
            await producer.send_and_wait(topics.LOAD, msgspec.json.encode(said))
        return (await load_catalog(store_pool)).tasks[task].partitions == 8

    async with running(kafka, database), Producer(kafka, "test") as producer:
        await until(grown)


async def test_leader_trims_finished_records(kafka: KafkaSettings, database: str, store_pool: Pool, task: str) -> None:
    await register(store_pool, kafka, task, {"a": 0.9})
    topic = topics.task_topic(task)

    async def trimmed() -> bool:
        return (await producer.send_and_wait(topic, b"{}", partition=1)).log_start_offset == 3

    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for i in range(10):
            await producer.send_and_wait(topic, b"{}", partition=i % 2)
        await commit(kafka, topic, 4)
        async with running(kafka, database):
            await until(trimmed)


async def test_autoscaler_treats_unserved_backlog_as_demand(
    kafka: KafkaSettings, database: str, store_pool: Pool, task: str
) -> None:
    best, beaten = await register(store_pool, kafka, task, {"a": 0.9, "b": 0.8})
    async with Producer(kafka, "test") as producer:
        await producer.send_and_wait(topics.variant_topic(beaten), b"{}")
    async with running(kafka, database), keeping_alive(store_pool, "cpu-0"):
        await until(lambda: is_placed(store_pool, {best: "cpu-0", beaten: "cpu-0"}))


async def test_worker_status_is_recorded_and_counts_as_heartbeat(
    kafka: KafkaSettings, database: str, store_pool: Pool, task: str
) -> None:
    [variant] = await register(store_pool, kafka, task, {"a": 0.9})
    epoch = await register_worker(store_pool, a_worker("cpu-0"))
    await store_pool.execute("UPDATE workers SET heartbeat_at = now() - interval '1 minute'")
    instance = InstanceStatus(variant=variant, state=InstanceState.OVERLOADED, queued=3, answered=5, slowdown=1.5)
    status = WorkerStatus(
        worker="cpu-0", hardware="cpu", epoch=epoch, at_ms=0, slots=2, price_per_hour=0.1,
        memory_used=1, memory_total=2, instances=(instance,),
    )  # fmt: skip

    async def recorded() -> bool:
        await producer.send_and_wait(topics.STATUS, msgspec.json.encode(status))
        since = datetime.now(UTC) - timedelta(minutes=1)
        rows = await instances_since(store_pool, since)
        states = {(row.variant, row.worker, row.state, row.queued, row.slowdown) for row in rows}
        workers = {row.worker for row in await workers_since(store_pool, since)}
        return (
            states == {(variant, "cpu-0", InstanceState.OVERLOADED, 3, 1.5)}
            and workers == {"cpu-0"}
            and bool(await placed(store_pool))
        )

    async with running(kafka, database), Producer(kafka, "test") as producer:
        await until(recorded)


async def test_autoscaler_standby_takes_over_from_killed_leader(
    kafka: KafkaSettings, database: str, store_pool: Pool, task: str
) -> None:
    await register(store_pool, kafka, task, {"a": 0.9})
    env = variables_of(kafka, database)
    async with service("autoscaler", "--interval-s=0.2", env=env) as first:
        await until(lambda: samples.latest_lag(store_pool))
        async with service("autoscaler", "--interval-s=0.2", env=env) as second:
            await until_led_by(store_pool, 2)
            first.kill()
            await first.wait()
            killed_at = datetime.now(UTC)
            await until(lambda: lag_since(store_pool, killed_at))
            second.terminate()
            assert await second.wait() == 0
