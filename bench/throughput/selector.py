"""Throughput of one selector process, over a bare consume-and-produce loop in one process.

Both find the same queries waiting and move them to their next topic, in turns, each in a separate process. The rate is
measured on the end offsets of the output topics, between a tenth and nine tenths of the queries, so that the start of a
process and its last queries do not count; the embedded broker reports only the begin of the last batch. The selector
has N registered variants, eight of them served by a worker that answers at once: the bench publishes its statuses in
`infaas.status`.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.core.database import fresh_database, put_models, synthetic_profile, synthetic_variant
from bench.core.figures import Figure, at_least, beside, exactly
from bench.core.programs import running_module
from bench.core.rounds import Rounds, take_rounds
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import (
    TopicSpec,
    ensure_system_topics,
    ensure_task_topics,
    ensure_topics,
    ensure_variant_topics,
)
from broker.producing.producer import Producer
from schemas import headers as h
from schemas.latency import BatchLatency
from schemas.rows.catalog import Profile, Task, TensorSpec, Variant
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from schemas.topics import REPLIES, STATUS, task_topic, variant_topic
from store.pool import open_pool

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from bench.core.system import SystemUnderTest

VARIANTS = (10, 270, 10_000)
QUERIES = 20_000
LIMIT = 0.6
_SERVED = 8
_PARTITIONS = 4
_VALUE = b"x" * 600
_STATUS_INTERVAL_S = 0.1
_SAMPLE_INTERVAL_S = 0.02
_RUN_S = 120.0
_MIN_ACCURACY = 0.7


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure queries per second for each number of variants, over the baseline."""
    figures: list[Figure] = []
    for variants in VARIANTS:
        rounds = await measure_rates(system.kafka, variants, QUERIES)
        ours, bare = zip(*rounds.taken, strict=True)
        name = f"selector throughput, {variants:,} variants"
        figures += rounds.of([at_least(name, broker, ours, "queries/s", bare, LIMIT)])
    if broker == "apache":  # the embedded broker supports a single selector
        figures += await measure_two(system.kafka, broker, QUERIES)
    return figures


async def measure_two(kafka: KafkaSettings, broker: str, queries: int) -> list[Figure]:
    """Measure queries per second through two selectors, over one, and count queries not decided exactly once."""
    astray = 0

    async def rate_of(count: int, site: _Site) -> float:
        nonlocal astray
        await _preload(kafka, task_topic(site.task), queries)
        before = await _count(kafka, site.outputs)
        commands = [site.selector(number) for number in range(count)]
        rate = await _rate(kafka, commands, site.outputs, queries, until=1.0)
        astray += abs(await _count(kafka, site.outputs) - before - queries)
        return rate

    async with _site(kafka, 10) as site:

        async def take(_number: int) -> tuple[float, float]:
            one = await rate_of(1, site)
            return await rate_of(2, site), one

        rounds = await take_rounds(take)
    two, one = zip(*rounds.taken, strict=True)
    return rounds.of(
        [
            beside("two selectors over one", broker, two, "queries/s", one),
            exactly("two selectors: queries not decided exactly once", broker, astray),
        ]
    )


async def _count(kafka: KafkaSettings, topics: Sequence[str]) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as watcher:
        return await _ends(watcher, _partitions(topics))


async def measure_rates(
    kafka: KafkaSettings, variants: int, queries: int, profiles: Sequence[Profile] = ()
) -> Rounds[tuple[float, float]]:
    """Return the queries per second of the selector and the bare loop; variants get `profiles`, or synthetic ones."""
    async with _site(kafka, variants, profiles) as site:

        async def take(number: int) -> tuple[float, float]:
            source, target = f"bare-in-{site.task}-{number}", f"bare-out-{site.task}-{number}"
            await ensure_topics(kafka, [TopicSpec(source, _PARTITIONS), TopicSpec(target, _PARTITIONS)])
            await _preload(kafka, source, queries)
            bare = _Command(("bench.core.baseline", source, target), {})
            bare_rate = await _rate(kafka, [bare], [target], queries)
            await _preload(kafka, task_topic(site.task), queries, site.min_accuracy)
            return await _rate(kafka, [site.selector()], site.outputs, queries), bare_rate

        return await take_rounds(take)


class _Command(NamedTuple):
    """Module to run, with its arguments and additions to its environment."""

    words: tuple[str, ...]
    env: Mapping[str, str]


class _Site(NamedTuple):
    """Task with topics and registered variants, some of them served by a worker that answers at once."""

    task: str
    outputs: list[str]
    """Topics of the served variants."""
    environment: dict[str, str]
    min_accuracy: float
    """Accuracy that queries require, which some of the served variants have."""

    def selector(self, number: int = 0) -> _Command:
        """Return the command of a selector."""
        return _Command(("selector",), {**self.environment, "INFAAS_SELECTOR_INSTANCE_ID": f"{self.task}-{number}"})


@asynccontextmanager
async def _site(kafka: KafkaSettings, variants: int, profiles: Sequence[Profile] = ()) -> AsyncGenerator[_Site]:
    task = uuid.uuid4().hex[:8]
    served = [f"{task}-{n}.onnx-fp32.cpu" for n in range(_SERVED)]
    await ensure_system_topics(kafka)
    await ensure_task_topics(kafka, task, _PARTITIONS)
    await ensure_variant_topics(kafka, [(name, _PARTITIONS) for name in served])
    async with _database(kafka, task, variants, profiles) as dsn, _reporting_worker(kafka, served):
        environment = {
            "INFAAS_POSTGRES": dsn,
            "INFAAS_SELECTOR_STATUS_TTL_S": "10",  # the status publisher competes for the same cores
            "INFAAS_LOG_LEVEL": "WARNING",
        }
        accuracy = min((profile.accuracy for profile in profiles[:_SERVED]), default=_MIN_ACCURACY)
        yield _Site(task, [variant_topic(name) for name in served], environment, accuracy)


async def _preload(kafka: KafkaSettings, topic: str, queries: int, min_accuracy: float = _MIN_ACCURACY) -> None:
    async with Producer(kafka, "bench") as producer:
        await producer.prefetch_metadata([topic])
        sent = [
            await producer.send(
                topic,
                _VALUE,
                key=(query_id := uuid.uuid4().hex.encode()),
                headers=[
                    (h.ID, query_id),
                    (h.REPLY_TO, f"{REPLIES}bench".encode()),
                    (h.LATENCY_MS, b"600000"),
                    (h.MIN_ACCURACY, str(min_accuracy).encode()),
                    (h.CONTENT_TYPE, b"application/json"),
                ],
                partition=number % _PARTITIONS,
            )
            for number in range(queries)
        ]
        await asyncio.gather(*sent)


async def _rate(
    kafka: KafkaSettings,
    commands: Sequence[_Command],
    outputs: Sequence[str],
    queries: int,
    until: float = 0.95,
) -> float:
    """Start the modules, watch their outputs grow by `queries`, and stop them. Returns the queries per second."""
    partitions = _partitions(outputs)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as watcher, AsyncExitStack() as stack:
        start = await _ends(watcher, partitions)
        processes = [
            await stack.enter_async_context(running_module(kafka, *words, env=env, announced=False))
            for words, env in commands
        ]
        async with asyncio.timeout(_RUN_S):
            return await _watch(processes, watcher, partitions, start, queries, until)


def _partitions(topics: Sequence[str]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in topics for number in range(_PARTITIONS)]


async def _watch(
    processes: Sequence["Process"],
    watcher: AIOKafkaConsumer,
    partitions: Sequence[TopicPartition],
    start: int,
    queries: int,
    until: float,
) -> float:
    samples: list[tuple[float, int]] = []
    while not samples or samples[-1][1] < until * queries:
        if any(process.returncode is not None for process in processes):
            raise RuntimeError("a measured process ended unexpectedly")
        samples.append((time.perf_counter(), await _ends(watcher, partitions) - start))
        await asyncio.sleep(_SAMPLE_INTERVAL_S)
    steady = [(at, count) for at, count in samples if 0.1 * queries <= count <= 0.9 * queries]
    (first_at, first), (last_at, last) = steady[0], steady[-1]
    return (last - first) / (last_at - first_at)


async def _ends(watcher: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> int:
    return sum((await watcher.end_offsets(partitions)).values())


@asynccontextmanager
async def _reporting_worker(kafka: KafkaSettings, served: Sequence[str]) -> AsyncGenerator[None]:
    """Publish the statuses of a worker without any backlog."""
    everything = tuple(PartitionStatus(number, 1 << 40, 1 << 40) for number in range(_PARTITIONS))
    instances = tuple(
        InstanceStatus(variant=name, state=InstanceState.ACTIVE, partitions=everything, max_batch=32) for name in served
    )

    async def publish(producer: Producer) -> None:
        while True:
            status = WorkerStatus(
                worker="bench", hardware="cpu", epoch=1, at_ms=producer.clock.now_ms(), slots=8, price_per_hour=0.384,
                memory_used=0, memory_total=1 << 34, instances=instances,
            )  # fmt: skip
            await producer.send_and_wait(STATUS, msgspec.json.encode(status), key=b"bench")
            await asyncio.sleep(_STATUS_INTERVAL_S)

    async with Producer(kafka, "bench-worker") as producer, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publish(producer), name="publish statuses")
        yield
        publishing.cancel()


@asynccontextmanager
async def _database(kafka: KafkaSettings, task: str, variants: int, profiles: Sequence[Profile]) -> AsyncGenerator[str]:
    """Run a Postgres with `task` and its variants, the first of these profiles; yields its DSN."""
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
    row = Task(name=task, inputs=(tensor,), outputs=(tensor,), partitions=_PARTITIONS)
    models = [_synthetic(task, number, *profiles[number : number + 1]) for number in range(variants)]
    async with fresh_database(kafka) as dsn:
        async with open_pool(dsn) as pool, pool.transaction() as session:
            await put_models(session, row, models)
        yield dsn


def _synthetic(task: str, number: int, profile: Profile | None = None) -> tuple[Variant, Profile]:
    """Return a variant; the first ones, which are served, suit every query; all differ in cost and accuracy."""
    variant = synthetic_variant(f"{task}-{number}.onnx-fp32.cpu", task, max_batch=32, partitions=_PARTITIONS)
    if profile is not None:
        return variant, msgspec.structs.replace(profile, variant=variant.name)
    batch_s = 1e-5 * (1 + number * 0.01)
    latency = [BatchLatency(size, batch_s * (1 + size / 8), batch_s * size) for size in (1, 2, 4, 8, 16, 32)]
    accuracy = 0.5 + 0.49 * (number * 0.618034 % 1)
    line = {"intercept_s": batch_s, "slope_s": batch_s / 8}
    return variant, synthetic_profile(variant.name, latency, accuracy=accuracy, memory_bytes=1 << 20, **line)
