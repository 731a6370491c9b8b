"""Sizes and costs of the console at 100 tasks, 1,000 variants and 200 workers with 1,000 instances, in a real Postgres.

A gateway runs in its own process. A first page is measured with everything that a browser loads for it, as browsers
ask: compressed. Updates are measured while the samples of all tasks and instances change each second. The cost of an
open page is the CPU time of the gateway and of its connections to Postgres beyond that without a page, idle and loaded.
"""

import asyncio
import gzip
import os
import re
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from bench.core.database import fresh_database, put_models, synthetic_profile, synthetic_variant
from bench.core.figures import Figure, percentile, within
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.settings import KafkaSettings
from process.sockets import LOOPBACK, free_port
from schemas.latency import BatchLatency
from schemas.rows.catalog import Task, TensorSpec
from schemas.rows.samples import AnswerTimesSample, InstanceSample, LagReading, LoadSample, WorkerSample
from schemas.status import InstanceState
from store.pool import Pool, open_pool
from store.samples import group_partition_ids, maintain_partitions, write_reading, write_samples

_TASKS: Final = 100
_VARIANTS: Final = 1_000
_WORKERS: Final = 200
_PARTITIONS: Final = 4
_ROUNDS: Final = 9
_SECONDS: Final = 40.0
_PAGES: Final = (
    "", "/models", "/models/model-0000", "/scale", "/scale/explanation?about=cpu-1", f"/tasks/task-{0:03d}", "/jobs",
    "/dead-letters", "/keys", "/tenants", "/audit",
)  # fmt: skip
_MOST_S: Final = 1.0
_MOST_PAGE_KB: Final = 300.0
_MOST_UPDATE_KB: Final = 20.0
_MOST_CORE: Final = 1.0
_FILL: Final = """
INSERT INTO workers (name, hardware, device, host, slots, threads, memory_bytes, price_per_hour, runtimes, lease_ttl_s)
SELECT 'cpu-' || n, 'cpu', 'bench', 'host', 4, 1, 16e9, 0.2, '{onnx}', 1e6 FROM generate_series(1, %(workers)d) AS n;
INSERT INTO instances (variant, worker, partitions, max_batch, state, reason)
SELECT name, 'cpu-' || 1 + (row_number() OVER (ORDER BY name)) %% %(workers)d, '{0,1,2,3}', 8, 'active',
    'the most accurate of its task and the fastest' FROM variants;
INSERT INTO decisions (at, action, variant, worker, reason, inputs)
SELECT now() - make_interval(secs => n), 'place', 'model-0000.onnx-fp32.cpu', 'cpu-1', 'the load of its task grows',
    '{"queries_per_s": 120.5, "latency_ms": 20, "instances": 3}' FROM generate_series(1, 500) AS n;
INSERT INTO jobs (id, model, task, state, offline, headers, request_bytes, fingerprint, finished_at)
SELECT to_char(n, 'fm000000') || repeat('0', 30), 'task-000', 'task-000', 'succeeded', true, '{}', 2, '', now()
FROM generate_series(1, 2000) AS n;
INSERT INTO api_keys (id, secret_hash, tenant, roles, note)
SELECT 'key-' || n, decode(md5(n::text) || md5(n::text), 'hex'), 'tenant-' || n, '{query}', 'a shop'
FROM generate_series(1, 200) AS n;
INSERT INTO audit (actor, origin, verb, subject, detail, outcome)
SELECT 'key:0123456789ab', '127.0.0.1', 'pin', 'task:task-000', '{"minimum": 1, "maximum": 3}', 'done'
FROM generate_series(1, 500) AS n
"""


async def measure(home: Path, broker: str) -> list[Figure]:
    """Measure first pages, updates and the cost of an open page; takes five minutes."""
    async with (
        ApacheKafka(home / "console-kafka") as kafka,
        fresh_database(kafka.settings) as dsn,
        open_pool(dsn) as pool,
        aiohttp.ClientSession() as http,
    ):
        await _fill(pool)
        async with _gateway(kafka.settings, dsn) as (process, console):
            seconds, kilobytes = await _first_pages(http, console)
            bare, idle = await _cost(process, pool), await _cost(process, pool, http, console)
            async with _changing(pool):
                loaded_bare = await _cost(process, pool)
                loaded = await _cost(process, pool, http, console)
                updates = [size for page in _PAGES for size in await _updates(http, console + page)]
    name = f"console, {_VARIANTS:,} variants, {_WORKERS} workers"
    return [
        within(f"{name}: slowest first page", broker, seconds, "s", _MOST_S),
        within(f"{name}: largest first page, with its files", broker, kilobytes, "kB", _MOST_PAGE_KB),
        within(f"{name}: largest update", broker, max(updates) / 1e3, "kB", _MOST_UPDATE_KB),
        within(f"{name}: median update", broker, percentile(updates, 0.5) / 1e3, "kB", _MOST_UPDATE_KB),
        within(f"{name}: idle open page", broker, 100 * (idle - bare), "% of a core", _MOST_CORE),
        within(f"{name}: open page under load", broker, 100 * (loaded - loaded_bare), "% of a core", _MOST_CORE),
    ]


async def _fill(pool: Pool) -> None:
    tensor = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
    each = _VARIANTS // _TASKS
    for number in range(_TASKS):
        task = Task(name=f"task-{number:03d}", inputs=(tensor,), outputs=(tensor,), partitions=_PARTITIONS)
        names = [f"model-{number * each + one:04d}.onnx-fp32.cpu" for one in range(each)]
        rows = [
            (
                synthetic_variant(name, task.name, max_batch=8, partitions=_PARTITIONS),
                synthetic_profile(name, [BatchLatency(batch=1, p50_s=0.001 * (one + 1), p99_s=0.002 * (one + 1))],
                                  accuracy=0.7 + 0.02 * one),
            )
            for one, name in enumerate(names)
        ]  # fmt: skip
        await put_models(pool, task, rows)
    for statement in (_FILL % {"workers": _WORKERS}).split(";"):
        await pool.execute(statement)
    await maintain_partitions(pool, datetime.now(UTC), 3600.0, 86_400.0)
    await _record(pool, whole=True)


async def _record(pool: Pool, *, whole: bool = False) -> None:
    """Write the samples of one second: every task has load, every instance has answered, every worker computes."""
    now = datetime.now(UTC)
    load = [
        LoadSample(
            at=now, task=f"task-{number:03d}", target=None, min_accuracy=0.8, latency_ms=20.0, offline=False,
            queries=100 + now.second, inputs=100, refused=1, upgraded=0, capped=50, max_costs=0.05 + now.second,
            answered=99, late=1, failed=0,
        )
        for number in range(_TASKS)
    ]  # fmt: skip
    instances = [
        InstanceSample(
            at=now, variant=f"model-{number:04d}.onnx-fp32.cpu", worker=f"cpu-{1 + number % _WORKERS}",
            state=InstanceState.ACTIVE, queued=1, batch_size=2.0, batch_s=0.01, slowdown=1.0,
            answered=10 + (number + now.second) % 7, inputs=10, late=0, expired=0,
        )
        for number in range(_VARIANTS)
    ]  # fmt: skip
    workers = [
        WorkerSample(
            at=now, worker=f"cpu-{1 + number}", hardware="cpu", slots=4, utilisation=(number + now.second) % 60 / 60,
            memory_used=(number + now.second) << 24, memory_total=16 << 30, cpus=8.0,
            cpu_busy=(number * now.second) % 60 / 60,
        )
        for number in range(_WORKERS)
    ]  # fmt: skip
    times = [
        AnswerTimesSample(
            at=now, task=f"task-{number:03d}", buckets=list(range(24, 48)), counts=[1 + (now.second + number) % 50] * 24
        )
        for number in range(_TASKS if now.second % 5 == 0 else 0)
    ]
    for rows in (load, instances, workers, times):
        await write_samples(pool, rows)
    topics = [f"infaas.variants.model-{number:04d}.onnx-fp32.cpu" for number in range(_VARIANTS)]
    ids = await group_partition_ids(pool, [("group", topic, part) for topic in topics for part in range(_PARTITIONS)])
    some = ids if whole else ids[:400]
    await write_reading(pool, LagReading(
        at=now, whole=whole, group_partitions=some, end_offsets=[100] * len(some), committed=[98] * len(some),
        lags=[2] * len(some), since_s=[(now - timedelta(seconds=1)).timestamp()] * len(some), healths=[1] * len(some),
    ))  # fmt: skip


@asynccontextmanager
async def _changing(pool: Pool) -> AsyncGenerator[None]:
    """Write the samples of each second while the context is open."""

    async def write() -> None:
        while True:
            began = time.monotonic()
            await _record(pool)
            await asyncio.sleep(max(1.0 - (time.monotonic() - began), 0.0))

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write(), name="samples")
        try:
            yield
        finally:
            writing.cancel()


@asynccontextmanager
async def _gateway(kafka: KafkaSettings, dsn: str) -> AsyncGenerator[tuple[psutil.Process, str]]:
    """Run a gateway while the context is open; yield its process and the address of its console."""
    port = free_port()
    own = {"INFAAS_KAFKA": kafka.bootstrap, "INFAAS_POSTGRES": dsn, "INFAAS_GATEWAY_PORT": str(port)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=os.environ | own)
    try:
        await _until_ready(f"http://{LOOPBACK}:{port}/v2/health/ready")
        yield psutil.Process(process.pid), f"http://{LOOPBACK}:{port}/console"
    finally:
        process.terminate()
        await process.wait()


async def _until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.2)


async def _first_pages(http: aiohttp.ClientSession, console: str) -> tuple[float, float]:
    """Return the largest median of seconds, and the largest kilobytes, of a page with all its files."""
    found: list[tuple[float, float]] = []
    for page in _PAGES:
        rounds = [await _load(http, console + page) for _ in range(_ROUNDS)]
        found.append((percentile([seconds for seconds, _ in rounds], 0.5), rounds[-1][1]))
    return max(seconds for seconds, _ in found), max(size for _, size in found)


async def _load(http: aiohttp.ClientSession, url: str) -> tuple[float, float]:
    """Load a page with its files; return the seconds, and the kilobytes that were sent for it."""
    began = time.perf_counter()
    sizes: list[int] = []
    async with http.get(url) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        sizes.append(_sent(answer, text.encode()))
    base = url.partition("/console")[0]
    for path in re.findall(r'(?:src|href)="(/console/static/[^"]+)"', text):
        async with http.get(base + path) as answer:
            sizes.append(_sent(answer, await answer.read()))
    return time.perf_counter() - began, sum(sizes) / 1e3


def _sent(answer: aiohttp.ClientResponse, content: bytes) -> int:
    """Return the bytes of a body as it was sent."""
    length = answer.headers.get("Content-Length")
    packed = "gzip" in answer.headers.get("Content-Encoding", "")
    return int(length) if length else len(gzip.compress(content)) if packed else len(content)


async def _updates(http: aiohttp.ClientSession, url: str) -> list[int]:
    """Return the bytes of each update of a page for some seconds."""
    sizes: list[int] = []
    async with http.get(url, headers={"Accept": "text/event-stream"}) as answer:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS / 2):
                async for line in answer.content:
                    sizes.extend([len(line)] if line.startswith(b"data: ") else [])
    return sizes


async def _cost(
    gateway: psutil.Process, pool: Pool, http: aiohttp.ClientSession | None = None, console: str = ""
) -> float:
    """Return the cores that a gateway and its connections take, with an open overview if there is a console."""
    reading = asyncio.create_task(_updates_forever(http, console), name="page") if http is not None else None
    try:
        await asyncio.sleep(3.0)
        ports = [connection.laddr.port for connection in gateway.net_connections()]
        backends = await pool.fetch_values(int, "SELECT pid FROM pg_stat_activity WHERE client_port = ANY ($1)", ports)
        processes = [gateway, *map(psutil.Process, backends)]
        before, began = _cpu_s(processes), time.perf_counter()
        await asyncio.sleep(_SECONDS)
        return (_cpu_s(processes) - before) / (time.perf_counter() - began)
    finally:
        if reading is not None:
            reading.cancel()


async def _updates_forever(http: aiohttp.ClientSession, console: str) -> None:
    while True:
        await _updates(http, console)


def _cpu_s(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
