"""Cost of observing 10,000 partitions: 20 tasks and 1,230 variants with two topics of four each, on Apache Kafka.

The online partitions of the tasks and of every twentieth variant get a record each second, from a separate process;
those of the tasks are committed, those of the variants fall behind. The figures are those of the recorder as the
autoscaler runs it: CPU of its process and time of a reading, and the size of its tables in Postgres after a compaction.
As the baseline, the same readings are written as one row per partition.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from aiokafka import TopicPartition

from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.status_cache import WorkerStatusCache
from autoscaler.record.recorder import Recorder
from autoscaler.settings import AutoscalerSettings
from bench.core.database import synthetic_variant
from bench.core.figures import Figure, at_most, plain
from broker.kafka.client import new_consumer
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.lag.reader import LagReader
from broker.producing.producer import Producer
from schemas import topics
from schemas.catalog import Catalog
from schemas.rows.catalog import Task, TensorSpec
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import Pool, open_pool

PARTITIONS: Final = 10_000
SECONDS: Final = 120
"""Duration of the measurement: two whole minutes, so that work done once per minute is counted twice."""
_EACH: Final = 4
_TASKS: Final = 20
_BUSY: Final = 20
"""Number of variants per busy variant."""
_AT_ONCE: Final = 100
_DAY_S: Final = 86_400
_TABLES: Final = ("lag_readings", "lag_minutes")


async def measure(home: Path, broker: str, partitions: int = PARTITIONS, seconds: int = SECONDS) -> list[Figure]:
    """Measure CPU and time of a reading, and rows and bytes per day, packed and as one row per partition."""
    catalog = _catalog(partitions)
    async with (
        ApacheKafka(home / "recorder-kafka") as kafka,
        EmbeddedPostgres(home / "recorder-postgres") as postgres,
    ):
        await upgrade(postgres.dsn)
        await _create_topics(kafka.settings, catalog)
        async with (
            open_pool(postgres.dsn) as pool,
            LagReader(kafka.settings) as reader,
            _traffic(kafka.settings, partitions),
        ):
            statuses = WorkerStatusCache(time.monotonic, 3.0)
            recorder = Recorder(AutoscalerSettings(), reader, pool, statuses, LoadWindow(statuses))
            await _record_until_known(recorder, catalog, pool)
            narrow_size = await _narrow_size(pool)
            await pool.execute(f"TRUNCATE {', '.join(_TABLES)}")
            empty = await _size(pool)
            cpu_s, wall_s = await _take(recorder, catalog, seconds)
            size = await _size(pool) - empty
            rows = sum([await pool.fetch_value(int, f"SELECT count(*) FROM {table}") or 0 for table in _TABLES])
    name = f"recorder, {partitions:,} partitions"
    days = _DAY_S / seconds
    return [
        plain(f"{name}, CPU a reading", broker, 1e3 * cpu_s, "ms"),
        plain(f"{name}, time of a reading", broker, 1e3 * wall_s, "ms"),
        at_most(f"{name}, rows a day", broker, rows * days, "rows", partitions * _DAY_S, 0.001),
        at_most(f"{name}, MB a day", broker, size * days / 1e6, "MB", narrow_size * _DAY_S / 1e6, 0.1),
    ]


def _catalog(partitions: int) -> Catalog:
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
    tasks = [f"task-{number}" for number in range(_TASKS)]
    names = [f"model-{number:05d}.onnx-fp32.cpu" for number in range(partitions // (2 * _EACH) - _TASKS)]
    return Catalog(
        tasks={name: Task(name=name, inputs=(tensor,), outputs=(tensor,), partitions=_EACH) for name in tasks},
        variants={
            name: synthetic_variant(name, tasks[number % _TASKS], max_batch=8, partitions=_EACH)
            for number, name in enumerate(names)
        },
        profiles={},
    )


async def _create_topics(kafka: KafkaSettings, catalog: Catalog) -> None:
    names = [topic for task in catalog.tasks for topic in (topics.task_topic(task), topics.offline_topic(task))]
    names += [topic for variant in catalog.variants for topic in topics.variant_topics(variant)]
    for first in range(0, len(names), _AT_ONCE):
        await ensure_topics(kafka, [TopicSpec(name, _EACH) for name in names[first : first + _AT_ONCE]])


async def _record_until_known(recorder: Recorder, catalog: Catalog, pool: Pool) -> None:
    """Record until every lag is known: new partitions have no leader at first."""
    unknown = "SELECT count(*) FROM current_lag WHERE lag IS NULL"
    while True:
        await recorder.record(catalog, ())
        if recorder.known and not await pool.fetch_value(int, unknown):
            return


async def _take(recorder: Recorder, catalog: Catalog, seconds: int) -> tuple[float, float]:
    """Take one reading per second. Returns the mean CPU seconds of this process per reading, and its median seconds."""
    cpu_s: list[float] = []
    wall_s: list[float] = []
    began_s = time.perf_counter()
    for number in range(seconds):
        cpu, wall = time.process_time(), time.perf_counter()
        await recorder.record(catalog, ())
        if not recorder.known:
            raise RuntimeError("a reading failed; see the log")
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
        await asyncio.sleep(max(began_s + number + 1 - time.perf_counter(), 0))
    return float(np.mean(cpu_s)), median(wall_s)


async def _size(pool: Pool) -> int:
    """Return the bytes of all partitions of our tables, after a compaction."""
    size = 0
    for table in _TABLES:
        await pool.execute(f"VACUUM FULL {table}")
        parts = "sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = $1::text::regclass"
        size += await pool.fetch_value(int, f"SELECT {parts}", table) or 0
    return size


async def _narrow_size(pool: Pool, readings: int = 10) -> float:
    """Return the bytes of a reading in a table with one row per partition."""
    await pool.execute(
        "CREATE TABLE narrow (at timestamptz NOT NULL, consumer_group text NOT NULL, topic text NOT NULL, "
        "partition integer NOT NULL, end_offset bigint NOT NULL, committed bigint, lag bigint, lag_s float8)"
    )
    await pool.execute("CREATE INDEX ON narrow (at)")
    await pool.execute(
        "INSERT INTO narrow SELECT l.at + make_interval(secs => n), consumer_group, topic, partition, end_offset, "
        f"committed, lag, lag_s FROM current_lag AS l, generate_series(1, {readings}) AS n ORDER BY 1"
    )
    await pool.execute("VACUUM FULL narrow")
    size = await pool.fetch_value(int, "SELECT pg_total_relation_size('narrow')") or 0
    return size / readings


# -- traffic -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _traffic(kafka: KafkaSettings, partitions: int) -> AsyncGenerator[None]:
    command = [sys.executable, "-m", "bench.scale.recorder", kafka.bootstrap, str(partitions)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield
        if process.returncode is not None:
            raise RuntimeError(f"the traffic ended unexpectedly with exit code {process.returncode}")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _send(bootstrap: str, partitions: int) -> None:
    kafka, catalog = KafkaSettings(bootstrap=bootstrap), _catalog(partitions)
    tasks = [TopicPartition(topics.task_topic(task), n) for task in catalog.tasks for n in range(_EACH)]
    names = list(catalog.variants)[::_BUSY]
    busy = tasks + [TopicPartition(topics.variant_topic(name), n) for name in names for n in range(_EACH)]
    consumer = new_consumer(kafka, "bench", group_id=topics.SELECTOR_GROUP)
    async with Producer(kafka, "bench") as producer:
        await consumer.start()
        consumer.assign(tasks)
        while True:
            sent = [await producer.send(p.topic, b"x" * 100, partition=p.partition) for p in busy]
            ends = {p: (await ack).offset + 1 for p, ack in zip(busy, sent, strict=True)}
            await consumer.commit({partition: ends[partition] for partition in tasks})
            await asyncio.sleep(1.0)


def main() -> None:
    """Run the traffic process; SIGTERM ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("partitions", type=int)
    wanted = parser.parse_args()
    asyncio.run(_send(wanted.bootstrap, wanted.partitions))


if __name__ == "__main__":
    main()
