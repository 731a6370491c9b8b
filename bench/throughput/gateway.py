"""Throughput of the gateway, over a bare aiohttp handler that only produces and awaits its reply.

Both write to the same topic, where the same process answers, and the same client loads them in turns. The client and
the brokers share the cores with them, which reduces the visible difference. So the requests per second of their own CPU
time are shown as well.
"""

import asyncio
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import psutil

from bench.core.figures import Figure, at_least
from bench.throughput.gateway_baseline import PARTITIONS
from bench.throughput.http_load import MeasuredLoad
from broker.settings import KafkaSettings
from broker.topics import ensure_task_topics
from process.ports import LOOPBACK, free_port
from registry.system_identity import join_system
from schemas.rows.catalog import Task, TensorSpec
from schemas.topics import task_topic
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import open_pool
from store.registry import put_task

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

ROUNDS = 5
SECONDS = 4.0
CONNECTIONS = 64
PACE = 900.0
"""Requests per second of the steady load."""
LIMIT = 0.7
_START_S = 60.0


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure the requests per second, and the requests per second of CPU time."""
    rates = await measure_rates(system.kafka)
    return [
        at_least("gateway requests", broker, rates["ours"], "requests/s", rates["bare"], LIMIT),
        Figure(
            name="gateway requests per CPU second",
            broker=broker,
            value=rates["ours_cpu"],
            unit="requests",
            baseline=rates["bare_cpu"],
            ratio=rates["ours_cpu"] / rates["bare_cpu"],
        ),
        Figure(
            name=f"gateway CPU of 1,000 requests, {PACE:g}/s",
            broker=broker,
            value=1000 / rates["ours_paced"],
            unit="s",
            baseline=1000 / rates["bare_paced"],
            ratio=rates["bare_paced"] / rates["ours_paced"],
        ),
    ]


async def measure_rates(kafka: KafkaSettings, rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, float]:
    """Return medians over the rounds, for `ours` and `bare`.

    The key without a suffix holds requests per second, `_cpu` requests per second of CPU, and `_paced` the latter at a
    steady rate.
    """
    task = f"bench-{uuid.uuid4().hex[:8]}"
    topic, port, baseline_port = task_topic(task), free_port(), free_port()
    await ensure_task_topics(kafka, task, PARTITIONS)
    async with (
        database_of(kafka, task) as dsn,
        running_module(kafka, "bench.throughput.gateway_baseline", "answer", topic),
        running_module(kafka, "bench.throughput.gateway_baseline", "serve", topic, str(baseline_port)) as baseline,
        running_gateway(kafka, dsn, port) as ours,
    ):
        servers = {
            "bare": (baseline, f"http://{LOOPBACK}:{baseline_port}/"),
            "ours": (ours, f"http://{LOOPBACK}:{port}/v2/models/{task}/infer"),
        }
        found: dict[str, list[float]] = {f"{name}{of}": [] for name in servers for of in ("", "_cpu", "_paced")}
        for number in range(rounds + 1):
            for name, (pid, url) in servers.items():
                load, per_cpu_s = await load_on(pid, url, seconds)
                _, paced = await load_on(pid, url, seconds, PACE)
                if number:  # the first round is the warm-up
                    found[name].append(load.per_second)
                    found[f"{name}_cpu"].append(per_cpu_s)
                    found[f"{name}_paced"].append(paced)
        return {name: median(values) for name, values in found.items()}


async def load_on(
    pid: int, url: str, seconds: float, pace: float = 0.0, env: Mapping[str, str] = {}
) -> tuple[MeasuredLoad, float]:
    """Load a server from a separate process. Returns the load's result, and requests per second of the server's CPU."""
    before = _cpu_s(pid)
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"bench.throughput.{'grpc' if url.startswith('grpc:') else 'http'}_load",
        url,
        str(seconds),
        str(CONNECTIONS),
        str(pace),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )
    output, _ = await client.communicate()
    if client.returncode:
        raise RuntimeError(f"the load on {url} failed")
    load = msgspec.json.decode(output, type=MeasuredLoad)
    return load, load.per_second * seconds / (_cpu_s(pid) - before)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@asynccontextmanager
async def running_module(kafka: KafkaSettings, module: str, *arguments: str) -> AsyncGenerator[int]:
    """Start a module that prints `ready`; yields its process id."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, stdout=asyncio.subprocess.PIPE, env=_environment(kafka)
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_S):
            if await process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{module} {' '.join(arguments)} did not start")
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def running_gateway(kafka: KafkaSettings, dsn: str, port: int, *flags: str) -> AsyncGenerator[int]:
    """Start a gateway, and wait until it is ready; yields its process id."""
    health = free_port()
    ports = ("--port", str(port), "--metrics-port", str(health))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *ports, *flags), env=_environment(kafka) | {"INFAAS_POSTGRES": dsn}
    )
    try:
        await _wait_ready(f"http://{LOOPBACK}:{health}/health/ready")
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _wait_ready(url: str) -> None:
    async with asyncio.timeout(_START_S), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.1)


def _environment(kafka: KafkaSettings) -> dict[str, str]:
    return {
        **os.environ,
        "INFAAS_KAFKA": kafka.bootstrap,
        "INFAAS_KAFKA_FETCH_MAX_WAIT_MS": str(kafka.fetch_max_wait_ms),
    }


@asynccontextmanager
async def database_of(kafka: KafkaSettings, task: str) -> AsyncGenerator[str]:
    """Run a Postgres that contains only the task; no selector uses it."""
    digits = TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 8, 8))
    logits = TensorSpec(name="logits", datatype="FP32", shape=(-1, 10))
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        async with EmbeddedPostgres(Path(folder), durable=False) as postgres:
            await upgrade(postgres.dsn)
            async with open_pool(postgres.dsn) as pool:
                await join_system(pool, kafka, take_over=True)  # the earlier measurement used the same Kafka
                await put_task(pool, Task(name=task, inputs=(digits,), outputs=(logits,), partitions=PARTITIONS))
            yield postgres.dsn
