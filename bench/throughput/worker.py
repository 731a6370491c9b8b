"""Throughput of a worker with an offline load, over the bare session of the same runtime at its best batch size.

Both compute the same model with one thread, the worker at a batch size of its own choice, in turns. The queue is filled
while nothing serves it; the bare session runs; then a bare program of the same hops (`kafka_loop`); then a `python -m
workers` process gets the partition and works off the queue. Its rate comes from its status records, between a tenth and
nine tenths of the queue, so that start and end do not count.
"""

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from bench.core.database import fresh_database, put_models, synthetic_profile, synthetic_variant
from bench.core.figures import Figure, at_least, beside
from bench.core.programs import running_module
from bench.core.rounds import take_rounds
from bench.core.system import SystemUnderTest
from bench.throughput.kafka_loop import fill, loop_rate
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_topics, ensure_variant_topics
from registry.artifacts import ArtifactStore
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions, Session
from schemas import topics
from schemas.latency import BatchLatency
from schemas.rows.catalog import Task, TensorSpec
from schemas.rows.cluster import InstanceRow
from schemas.status import WorkerStatus
from store.placement import list_workers, put_instances
from store.pool import Pool, open_pool
from store.shared_connection import PLACEMENT, ChangeListener
from zoo.samples import DATA, labelled

LIMIT: Final = 0.9
SECONDS: Final = 4.0
MODEL: Final = DATA / "mnist_resnet.onnx"
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
_PASSES: Final = 5
_WORKER: Final = "bench-0"
_DEADLINE_S: Final = 60.0
_SPECS: Final = (
    TensorSpec(name="input", datatype="FP32", shape=(-1, 1, 28, 28)),
    TensorSpec(name="logits", datatype="FP32", shape=(-1, 10)),
)


async def measure(system: SystemUnderTest, broker: str) -> list[Figure]:
    """Measure on this system's broker, with a separate database, so that no autoscaler interferes."""
    return await compare(system.kafka, broker, "mnist-resnet")


async def compare(
    kafka: KafkaSettings, broker: str, name: str, runtime: str = "onnx", artifact: Path = MODEL
) -> list[Figure]:
    """Measure the worker, and a bare program of the same hops, over the bare session: medians of rounds in turns.

    Args:
        kafka: broker of the queries.
        broker: name of the broker in the figures.
        name: name of the model in the figures.
        runtime: runtime that computes it.
        artifact: model file for the runtime.
    """
    inputs, _labels = labelled("mnist")
    images = inputs["input"]
    options = LoadOptions(precision="fp32", threads=1, max_batch=BATCHES[-1])
    session = await asyncio.to_thread(find_runtime(runtime).load, artifact, "cpu", options)
    latency = await asyncio.to_thread(_latency, session, images)
    best = max(latency, key=lambda measured: measured.batch / measured.p50_s)
    count = round(SECONDS * best.batch / best.p50_s)
    async with (
        _worker_with_database(kafka, latency, runtime, artifact) as (pool, variant),
        Tail(kafka, "bench", [topics.STATUS]) as tail,
    ):

        async def take(_number: int) -> tuple[float, float, float]:
            await fill(kafka, topics.offline_variant_topic(variant), images, count)
            bare = await asyncio.to_thread(_bare_rate, session, images, best.batch)
            hops = await loop_rate(kafka, session, images, best.batch, count)
            await _place(pool, variant, (0,))
            rate = await _worker_rate(tail, count)
            await _place(pool, variant, ())
            return rate, hops, bare

        rounds = await take_rounds(take)
    ours, hops, bare = zip(*rounds.taken, strict=True)
    return rounds.of(
        [
            at_least(f"worker fed offline, {name}", broker, ours, "samples/s", bare, LIMIT),
            beside(f"a bare program of the same hops, {name}", broker, hops, "samples/s", bare),
        ]
    )


def _latency(session: Session, images: Any) -> list[BatchLatency]:
    """Measure each batch size: the best of several medians, so that noise does not decide the best batch size."""
    passes = [[_batch_latency(session, images, batch) for batch in BATCHES] for _ in range(_PASSES)]
    return [min(measured, key=lambda latency: latency.p50_s) for measured in zip(*passes, strict=True)]


def _batch_latency(session: Session, images: Any, batch: int) -> BatchLatency:
    feed = {"input": images[:batch]}
    seconds: list[float] = []
    for _ in range(15):
        began = time.perf_counter()
        session.infer(feed)
        seconds.append(time.perf_counter() - began)
    return BatchLatency(batch, median(seconds), max(seconds))


def _bare_rate(session: Session, images: Any, batch: int) -> float:
    feed, samples, began = {"input": images[:batch]}, 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < SECONDS:
        session.infer(feed)
        samples += batch
    return samples / elapsed


@asynccontextmanager
async def _worker_with_database(
    kafka: KafkaSettings, latency: list[BatchLatency], runtime: str, artifact: Path
) -> AsyncGenerator[tuple[Pool, str]]:
    """Run a worker process and a database with the model; yields the pool and the variant's name."""
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as home:
        async with fresh_database(kafka) as dsn, open_pool(dsn) as pool:
            variant = await _register(kafka, pool, Path(home), latency, runtime, artifact)
            env = {"INFAAS_HOME": home, "INFAAS_POSTGRES": dsn, "INFAAS_LOG_LEVEL": "WARNING"}
            words = ("--name", _WORKER, "--cores", "1")
            async with running_module(kafka, "workers", *words, env=env, announced=False):
                await _wait_for_worker(pool, dsn)
                await _place(pool, variant, ())
                yield pool, variant


async def _register(
    kafka: KafkaSettings, pool: Pool, home: Path, latency: list[BatchLatency], runtime: str, model: Path
) -> str:
    run = uuid.uuid4().hex[:8]
    task, name = f"mnist-{run}", f"resnet-{run}.{runtime.replace('-', '')}-fp32.cpu"
    artifact = await asyncio.to_thread(ArtifactStore(home / "artifacts").put, model)
    await ensure_system_topics(kafka)
    await ensure_variant_topics(kafka, [(name, 1)])
    await ensure_topics(kafka, [TopicSpec(topics.results_topic(task))])
    fields = {"runtime": runtime, "max_batch": BATCHES[-1], "artifact": artifact, "partitions": 1}
    profile = synthetic_profile(name, latency, load_s=0.1, memory_bytes=1 << 20)
    row = Task(name=task, inputs=_SPECS[:1], outputs=_SPECS[1:], partitions=1)
    await put_models(pool, row, [(synthetic_variant(name, task, **fields), profile)])
    return name


async def _wait_for_worker(pool: Pool, dsn: str) -> None:
    async with ChangeListener(dsn, [PLACEMENT]) as changes, asyncio.timeout(_DEADLINE_S):
        async for _channel in changes:
            if await list_workers(pool):
                return


async def _place(pool: Pool, variant: str, partitions: tuple[int, ...]) -> None:
    row = InstanceRow(variant=variant, worker=_WORKER, partitions=partitions, max_batch=BATCHES[-1], reason="bench")
    await put_instances(pool, [row])


async def _worker_rate(tail: Tail, count: int) -> float:
    """Return the queries per second in the middle of the next `count` that the worker answers."""
    async with asyncio.timeout(_DEADLINE_S):
        start = (await _next_status(tail))[1]
        begin = await _status_at(tail, start + count // 10)
        end = await _status_at(tail, start + count * 9 // 10)
        await _status_at(tail, start + count)
    return (end[1] - begin[1]) / (end[0] - begin[0])


async def _status_at(tail: Tail, answered: int) -> tuple[float, int]:
    while (found := await _next_status(tail))[1] < answered:
        pass
    return found


async def _next_status(tail: Tail) -> tuple[float, int]:
    """Return the time of the next status in epoch seconds, and the number of queries answered until then."""
    while True:
        for record in reversed(await tail.poll()):
            status = msgspec.json.decode(record.value or b"", type=WorkerStatus)
            if status.worker == _WORKER and status.instances:
                return status.at_ms / 1e3, status.instances[0].answered
