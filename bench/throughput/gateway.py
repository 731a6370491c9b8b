"""Throughput of the gateway, over a bare aiohttp handler that only produces and awaits its reply.

Both write to the same topic, where the same process answers, and the same client loads them in turns. The client and
the brokers share the cores with them, which reduces the visible difference. So the requests per second of their own CPU
time are shown as well.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING

import aiohttp
import psutil

from bench.core.database import fresh_database, put_models
from bench.core.figures import Figure, at_least, beside
from bench.core.programs import cpu_s, running_module
from bench.load.http_load import MeasuredLoad, load_url
from bench.throughput.gateway_baseline import PARTITIONS
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics
from process.health import responds
from process.sockets import LOOPBACK, free_port
from schemas.rows.catalog import Task, TensorSpec
from schemas.topics import task_topic
from store.pool import open_pool

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

ROUNDS = 5
SECONDS = 4.0
CONNECTIONS = 64
PACE = 900.0
"""Requests per second of the steady load."""
LIMIT = 0.7
BASELINE = "bench.throughput.gateway_baseline"
_START_S = 60.0


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure the requests per second, and the requests per second of CPU time."""
    rates = await measure_rates(system.kafka)
    paced, bare_paced = (1000 / rates[f"{name}_paced"] for name in ("ours", "bare"))
    return [
        at_least("gateway requests", broker, rates["ours"], "requests/s", rates["bare"], LIMIT),
        beside("gateway requests per CPU second", broker, rates["ours_cpu"], "requests", rates["bare_cpu"]),
        beside(f"gateway CPU of 1,000 requests, {PACE:g}/s", broker, paced, "s", bare_paced),
    ]


async def measure_rates(kafka: KafkaSettings, rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, float]:
    """Return medians over the rounds, for `ours` and `bare`.

    The key without a suffix holds requests per second, `_cpu` requests per second of CPU, and `_paced` the latter at a
    steady rate.
    """
    port, baseline_port = free_port(), free_port()
    async with (
        answered_task(kafka) as (task, dsn),
        running_module(kafka, BASELINE, "serve", task_topic(task), str(baseline_port)) as baseline,
        running_gateway(kafka, dsn, port) as ours,
    ):
        servers = {
            "bare": (baseline.pid, f"http://{LOOPBACK}:{baseline_port}/"),
            "ours": (ours, infer_url(port, task)),
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


def infer_url(port: int, task: str, scheme: str = "http") -> str:
    """Return the URL of queries to a task at a gateway of this machine."""
    return f"{scheme}://{LOOPBACK}:{port}/v2/models/{task}/infer"


async def load_on(
    pid: int, url: str, seconds: float, rate: float = 0.0, env: Mapping[str, str] = {}
) -> tuple[MeasuredLoad, float]:
    """Load a server from a separate process. Returns the load's result, and requests per second of the server's CPU."""
    server = psutil.Process(pid)
    before = cpu_s(server)
    load = await load_url(url, seconds, CONNECTIONS, rate, env)
    return load, load.per_second * seconds / (cpu_s(server) - before)


@asynccontextmanager
async def answered_task(kafka: KafkaSettings) -> AsyncGenerator[tuple[str, str]]:
    """Run a Postgres with only one task, whose queries a process answers without a selector; yields task and DSN."""
    task = f"bench-{uuid.uuid4().hex[:8]}"
    digits = TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 8, 8))
    logits = TensorSpec(name="logits", datatype="FP32", shape=(-1, 10))
    await ensure_task_topics(kafka, task, PARTITIONS)
    async with fresh_database(kafka) as dsn, running_module(kafka, BASELINE, "answer", task_topic(task)):
        async with open_pool(dsn, max_size=1) as pool:
            await put_models(pool, Task(name=task, inputs=(digits,), outputs=(logits,), partitions=PARTITIONS), ())
        yield task, dsn


@asynccontextmanager
async def running_gateway(kafka: KafkaSettings, dsn: str, port: int, *flags: str) -> AsyncGenerator[int]:
    """Start a gateway, and wait until it is ready; yields its process id."""
    health = free_port()
    words = ("--port", str(port), "--metrics-port", str(health), *flags)
    async with running_module(kafka, "gateway", *words, env={"INFAAS_POSTGRES": dsn}, announced=False) as process:
        await _wait_ready(f"http://{LOOPBACK}:{health}/health/ready")
        yield process.pid


async def _wait_ready(url: str) -> None:
    async with asyncio.timeout(_START_S), aiohttp.ClientSession() as http:
        while not await responds(http, url):  # noqa: ASYNC110 - HTTP has no event to wait for
            await asyncio.sleep(0.1)
