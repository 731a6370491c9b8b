"""Whole cluster of many workers: CPU time of each part, and the ages of statuses and heartbeats.

A real selector, autoscaler, Postgres and Apache Kafka serve synthetic workers of ten instances each. Queries that name
a variant compute for a second, so a few of them keep many workers busy, and a busy worker publishes ten statuses a
second. The services keep their defaults, except that nothing is scaled down. The workers of the largest cluster publish
statuses and renew leases at a fourth of the usual rates, because two cores cannot bear more.

Rates fall and ages rise on a full machine; CPU seconds of a status and of a heartbeat do not depend on that. A
status costs the CPU of the selector beyond that before the first worker; a heartbeat costs all CPU of Postgres.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import msgspec
import numpy as np
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from bench.core.database import put_models, synthetic_profile, synthetic_variant
from bench.core.figures import Figure, percentile, plain
from bench.core.programs import cpu_seconds, running_module
from bench.scale.synthetic_worker import OFFLINE_TOPIC, worker_name
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_task_topics, ensure_topics
from infaas.client import InfaasClient, QueryError
from process.sockets import free_port
from registry.system_identity import join_system
from schemas import topics
from schemas.latency import BatchLatency
from schemas.rows.catalog import Task, TensorSpec
from schemas.rows.cluster import InstanceRow
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.placement import put_instances
from store.pool import Pool, open_pool

INSTANCES: Final = 10
"""Instances of each worker."""
_TASKS: Final = 20
_VARIANTS: Final = 200
_KINDS: Final = _VARIANTS // INSTANCES
"""Numbers of workers that have the same instances differ by a multiple of it."""
_SERVICE_S: Final = 1.0
_MAX_BATCH: Final = 8
_LATENCY_MS: Final = 5_000.0
_FLEET_PROCESSES: Final = 2
_AT_ONCE: Final = 20
_LOOK_S: Final = 0.5
_START_S: Final = 1_200.0
_IDLE_S: Final = 10.0
_WARM_S: Final = 15.0
_NEVER_S: Final = "1000000"
_DELAY: Final = "infaas_selector_status_delay_seconds_bucket"
_KEPT: Final = {
    "INFAAS_AUTOSCALER_DOWNSCALE_DELAY_S": _NEVER_S,
    "INFAAS_AUTOSCALER_KEEP_IDLE_S": _NEVER_S,
}
"""Settings of an autoscaler that decides but removes nothing."""
_SERVICES: Final = {"selector": "selector", "autoscaler": "autoscaler", "postgres": "Postgres", "java": "Kafka"}
"""Names of the parts in figures, by the names of their programs."""
_FLEET: Final = "bench.scale.synthetic_worker"


class ClusterSize(NamedTuple):
    """Number of workers and the queries a second that they answer."""

    workers: int
    rate: float
    busy: str
    """Share of the workers that the queries keep busy, in words."""
    slower: float = 1.0
    """Ratio of the intervals of statuses and renewals to the usual ones."""

    @property
    def settings(self) -> dict[str, str]:
        """Settings of the workers, and the time for which the autoscaler takes their statuses as current."""
        wanted = {"LEASE_RENEW_S": 1.0, "LEASE_TTL_S": 3.0, "STATUS_INTERVAL_S": 0.1, "STATUS_IDLE_INTERVAL_S": 1.0}
        found = {f"INFAAS_WORKERS_{name}": f"{seconds * self.slower:g}" for name, seconds in wanted.items()}
        return found | {"INFAAS_AUTOSCALER_STATUS_TTL_S": f"{3.0 * self.slower:g}"}


SIZES: Final = (ClusterSize(100, 150.0, "all busy"), ClusterSize(1_000, 100.0, "a tenth busy", slower=4.0))


class ClusterReport(NamedTuple):
    """Measurements of one window."""

    seconds: float
    cpu_s: Mapping[str, float]
    """CPU seconds by program."""
    machine_s: float
    """CPU seconds of everything that ran on the machine."""
    idle_selector: float
    """Cores of the selector without workers."""
    statuses: int
    delays: Mapping[float, int]
    """Statuses by the upper bound in seconds of their delay."""
    heartbeats: int
    heartbeat_ages_s: Sequence[float]
    answered: int
    failed: int


async def measure(home: Path, broker: str, sizes: Sequence[ClusterSize] = SIZES, seconds: float = 30.0) -> list[Figure]:
    """Measure each size on servers of its own."""
    figures: list[Figure] = []
    for size in sizes:
        figures += _figures(size, broker, await watch_cluster(home / f"cluster-{size.workers}", size, seconds))
    return figures


def _figures(size: ClusterSize, broker: str, seen: ClusterReport) -> list[Figure]:
    name = f"{size.workers:,} workers of {INSTANCES} instances, {size.busy}"
    cores = {program: spent / seen.seconds for program, spent in seen.cpu_s.items()}
    status_us = 1e6 * (cores["selector"] - seen.idle_selector) * seen.seconds / max(seen.statuses, 1)
    heartbeat_ms = 1e3 * seen.cpu_s["postgres"] / max(seen.heartbeats, 1)
    rows = [
        *((f"{service}, CPU", cores[program], "cores") for program, service in _SERVICES.items()),
        ("synthetic workers, CPU", cores[_FLEET], "cores"),
        (f"machine of {psutil.cpu_count()} cores, CPU with other programs", seen.machine_s / seen.seconds, "cores"),
        ("statuses", seen.statuses / seen.seconds, "/s"),
        ("selector, CPU a status", status_us, "us"),
        ("selector, share of a core that statuses take", 100 * (cores["selector"] - seen.idle_selector), "%"),
        ("age of a status at the selector, p50", 1e3 * bucket_percentile(seen.delays, 0.5), "ms"),
        ("age of a status at the selector, p99", 1e3 * bucket_percentile(seen.delays, 0.99), "ms"),
        ("heartbeats", seen.heartbeats / seen.seconds, "/s"),
        ("Postgres, CPU a heartbeat and renewal", heartbeat_ms, "ms"),
        ("age of a heartbeat, p50", percentile(seen.heartbeat_ages_s, 0.5), "s"),
        ("age of a heartbeat, p99", percentile(seen.heartbeat_ages_s, 0.99), "s"),
        ("queries answered", seen.answered / seen.seconds, "/s"),
        ("queries failed", seen.failed / seen.seconds, "/s"),
    ]
    return [plain(f"{name}: {what}", broker, value, unit) for what, value, unit in rows]


def bucket_percentile(counts: Mapping[float, int], share: float) -> float:
    """Return the value below which a share of the observations lies, by linear interpolation within its bucket.

    `counts` are the observations by the upper bounds of their buckets; the last bound stands for all beyond.
    """
    wanted, passed, low = share * sum(counts.values()), 0, 0.0
    for bound, count in sorted(counts.items()):
        if count and passed + count >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - passed) / count
        passed, low = passed + count, bound
    return low


# -- the cluster -------------------------------------------------------------------------------------------------------


async def watch_cluster(home: Path, size: ClusterSize, seconds: float) -> ClusterReport:
    """Start a cluster, wait until all instances serve, and measure for `seconds` under load."""
    async with AsyncExitStack() as stack:
        kafka = (await stack.enter_async_context(ApacheKafka(home / "kafka"))).settings
        postgres = await stack.enter_async_context(EmbeddedPostgres(home / "postgres"))
        pool = await stack.enter_async_context(open_pool(postgres.dsn, max_size=2))
        await upgrade(postgres.dsn)
        await join_system(pool, kafka, take_over=True)
        await _register(pool, kafka, size.workers)
        env = {"INFAAS_POSTGRES": postgres.dsn, "INFAAS_LOG_LEVEL": "WARNING", "INFAAS_HOME": str(home)}
        env |= size.settings
        port = free_port()
        selector = running_module(
            kafka, "selector", env={**env, "INFAAS_SELECTOR_METRICS_PORT": str(port)}, announced=False
        )
        await stack.enter_async_context(selector)
        metrics = f"http://127.0.0.1:{port}/metrics"
        await _until_answering(metrics)
        idle_selector = await _idle_cores("selector")
        for process in range(_FLEET_PROCESSES):
            first, last = (size.workers * number // _FLEET_PROCESSES for number in (process, process + 1))
            words = (str(first), str(last - first), str(home))
            await stack.enter_async_context(running_module(kafka, _FLEET, *words, env=env, announced=False))
        await _place(pool, size.workers)
        await stack.enter_async_context(running_module(kafka, "autoscaler", env={**env, **_KEPT}, announced=False))
        async with _load(kafka, size.rate) as outcomes:
            await asyncio.sleep(_WARM_S)
            return await _window(kafka, pool, metrics, idle_selector, outcomes, seconds)


async def _register(pool: Pool, kafka: KafkaSettings, workers: int) -> None:
    """Register tasks and variants, with one partition for each instance, and create their topics."""
    await ensure_system_topics(kafka)
    tensor, partitions = TensorSpec(name="x", datatype="FP32", shape=(-1, 4)), -(-workers // _KINDS)
    latency = [BatchLatency(batch, _SERVICE_S * batch**0.5, _SERVICE_S * batch**0.5) for batch in (1, 2, 4, _MAX_BATCH)]
    for task in range(_TASKS):
        names = [variant_name(number) for number in range(_VARIANTS) if number % _TASKS == task]
        models = [
            (
                synthetic_variant(name, _task(task), max_batch=_MAX_BATCH, partitions=partitions),
                synthetic_profile(name, latency),
            )
            for name in names
        ]
        row = Task(name=_task(task), inputs=(tensor,), outputs=(tensor,), partitions=1)
        async with pool.transaction() as session:
            await put_models(session, row, models)
        await ensure_task_topics(kafka, row.name, row.partitions)
    await ensure_topics(kafka, [TopicSpec(OFFLINE_TOPIC, partitions)])
    for first in range(0, _VARIANTS, _AT_ONCE):
        names = [variant_name(number) for number in range(first, first + _AT_ONCE)]
        online = [TopicSpec(topics.variant_topic(name), partitions) for name in names]
        await ensure_topics(kafka, [*online, *(TopicSpec(topics.offline_variant_topic(name)) for name in names)])


def variant_name(number: int) -> str:
    """Return the name of a synthetic variant."""
    return f"arch-{number:03}.onnx-fp32.cpu"


def _task(number: int) -> str:
    return f"task-{number}"


async def _place(pool: Pool, workers: int) -> None:
    """Wait for the workers, give each its instances, and wait until all serve."""
    async with asyncio.timeout(_START_S):
        while await pool.fetch_value(int, "SELECT count(*) FROM workers") != workers:  # noqa: ASYNC110 - another process
            await asyncio.sleep(_LOOK_S)
        rows = [
            InstanceRow(
                variant=variant_name((worker + _KINDS * number) % _VARIANTS),
                worker=worker_name(worker),
                partitions=(worker // _KINDS,),
                max_batch=_MAX_BATCH,
            )
            for worker in range(workers)
            for number in range(INSTANCES)
        ]
        async with pool.transaction() as session:
            await put_instances(session, rows)
        while await pool.fetch_value(int, "SELECT count(*) FROM instances WHERE state = 'active'") != len(rows):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)


async def _idle_cores(program: str) -> float:
    before = cpu_seconds(psutil.Process())[program]
    await asyncio.sleep(_IDLE_S)
    return (cpu_seconds(psutil.Process())[program] - before) / _IDLE_S


# -- the window --------------------------------------------------------------------------------------------------------


class _Counters(msgspec.Struct):
    """Counters at one moment."""

    at_s: float
    cpu_s: dict[str, float]
    machine_s: float
    statuses: int
    delays: Counter[float]
    heartbeats: int
    outcomes: Counter[bool]


async def _window(
    kafka: KafkaSettings, pool: Pool, metrics: str, idle_selector: float, outcomes: Counter[bool], seconds: float
) -> ClusterReport:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as watcher:
        began = await _counters(watcher, pool, metrics, outcomes)
        ages = list[float]()
        while time.monotonic() < began.at_s + seconds:
            await asyncio.sleep(1.0)
            ages += await pool.fetch_value(list[float], _AGES) or []
        ended = await _counters(watcher, pool, metrics, outcomes)
    return ClusterReport(
        seconds=ended.at_s - began.at_s,
        cpu_s={name: spent - began.cpu_s.get(name, 0.0) for name, spent in ended.cpu_s.items()},
        machine_s=ended.machine_s - began.machine_s,
        idle_selector=idle_selector,
        statuses=ended.statuses - began.statuses,
        delays=ended.delays - began.delays,
        heartbeats=ended.heartbeats - began.heartbeats,
        heartbeat_ages_s=ages,
        answered=ended.outcomes[True] - began.outcomes[True],
        failed=ended.outcomes[False] - began.outcomes[False],
    )


async def _counters(watcher: AIOKafkaConsumer, pool: Pool, metrics: str, outcomes: Counter[bool]) -> _Counters:
    status = TopicPartition(topics.STATUS, 0)
    times = psutil.cpu_times()
    return _Counters(
        at_s=time.monotonic(),
        cpu_s=cpu_seconds(psutil.Process()),
        machine_s=sum(times) - times.idle - times.iowait - times.guest - times.guest_nice,
        statuses=(await watcher.end_offsets([status]))[status],
        delays=delay_counts(await _read(metrics)),
        heartbeats=await pool.fetch_value(int, _BEATS) or 0,
        outcomes=outcomes.copy(),
    )


def delay_counts(metrics: str) -> Counter[float]:
    """Return the statuses by the upper bound of their delay, from the metrics of a selector."""
    cumulative = sorted(
        (float(sample.labels["le"]), int(sample.value))
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == _DELAY
    )
    return Counter({bound: count - less for (_, less), (bound, count) in pairwise([(0.0, 0), *cumulative])})


async def _read(url: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return await response.text()


async def _until_answering(url: str) -> None:
    async with asyncio.timeout(_START_S):
        while True:
            with suppress(aiohttp.ClientError):
                await _read(url)
                return
            await asyncio.sleep(_LOOK_S)


_AGES: Final = "SELECT array_agg(extract(epoch FROM clock_timestamp() - heartbeat_at)::float8) FROM workers"
_BEATS: Final = "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'workers'"


# -- the load ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _load(kafka: KafkaSettings, rate: float) -> AsyncGenerator[Counter[bool]]:
    """Send queries at a steady rate, each by the name of a random variant; yields the number of answers and errors."""
    outcomes = Counter[bool]()
    async with InfaasClient(kafka=kafka) as client, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_send(client, rate, outcomes), name="load")
        yield outcomes
        sending.cancel()


async def _send(client: InfaasClient, rate: float, outcomes: Counter[bool]) -> None:
    draw, due_s = random.Random(0), time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        while True:
            due_s += draw.expovariate(rate)
            await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
            tasks.create_task(_ask(client, draw.randrange(_VARIANTS), outcomes))


async def _ask(client: InfaasClient, variant: int, outcomes: Counter[bool]) -> None:
    inputs = {"x": np.zeros((1, 4), np.float32)}
    try:
        await client.infer(_task(variant % _TASKS), inputs, target=variant_name(variant), latency_ms=_LATENCY_MS)
        outcomes[True] += 1
    except QueryError:
        outcomes[False] += 1
