"""Throughput of the gateway, over a bare aiohttp handler that only produces and awaits its reply.

Both write to the same topic, where the same process answers, and the compiled client loads them in turns. The client
and the brokers share the cores with them, which reduces the visible difference. So the requests per second of their own
CPU time are shown as well.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import aiohttp
import psutil

from bench.core.database import fresh_database, put_models
from bench.core.figures import Figure, at_least, beside
from bench.core.programs import cpu_s, running_module
from bench.core.rounds import Rounds, take_rounds
from bench.load.http_load import HttpLoad, LoadShape, MeasuredLoad, compiled_client
from bench.load.http_message import HttpRequest
from bench.load.pace import small_query
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

SECONDS = 10.0
CONNECTIONS = 64
PACE = 900.0
"""Requests per second of the steady load."""
LIMIT = 0.7
BASELINE = "bench.throughput.gateway_baseline"
_START_S = 60.0
_DRAIN_S = 20.0

LoadOn: TypeAlias = Callable[[float, float], Awaitable[MeasuredLoad]]
"""Function (seconds, rate) that loads a server; without a rate, as fast as it answers."""


class Listener(NamedTuple):
    """Listener under load: its process, and its client."""

    pid: int
    load: LoadOn


class Turn(NamedTuple):
    """Measurement of a listener in one round."""

    per_second: float
    cpu_s: float
    """Seconds of the server's CPU time of 1,000 requests, at full speed."""
    p50_ms: float
    """At the steady rate, like those below."""
    p99_ms: float
    paced_cpu_s: float


def compiled_load(client: Path, port: int, task: str, headers: Mapping[str, str] = {}) -> LoadOn:
    """Return a load of small queries of a task by the compiled client, with further headers."""
    value, described = small_query()
    texts = {name: text.decode() for name, text in described}
    load = HttpLoad(client, port, [HttpRequest(infer_path(task), {**texts, **headers}, value)])

    async def run(seconds: float, rate: float) -> MeasuredLoad:
        report = await load.run(LoadShape(seconds=seconds, connections=CONNECTIONS, rate=rate, drain_s=_DRAIN_S))
        if report.answered < report.sent:
            raise RuntimeError(f"{report.answered} of {report.sent} were answered; by status: {report.statuses}")
        return MeasuredLoad(report.answered / report.elapsed_s, report.p50_ms, report.p99_ms)

    return run


def infer_path(task: str) -> str:
    """Return the path of queries to a task."""
    return f"/v2/models/{task}/infer"


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure the requests per second, and the requests per second of CPU time."""
    kafka, port, baseline_port = system.kafka, free_port(), free_port()
    async with (
        compiled_client() as client,
        answered_task(kafka) as (task, dsn),
        running_module(kafka, BASELINE, "serve", task_topic(task), str(baseline_port)) as baseline,
        running_gateway(kafka, dsn, port) as pid,
    ):
        listeners = {
            "bare": Listener(baseline.pid, compiled_load(client, baseline_port, task)),
            "ours": Listener(pid, compiled_load(client, port, task)),
        }
        rounds = await take_turns(listeners, SECONDS)
    own, base = ([turns[name] for turns in rounds.taken] for name in ("ours", "bare"))
    return rounds.of([
        at_least("gateway requests", broker, [turn.per_second for turn in own], "requests/s",
                 [turn.per_second for turn in base], LIMIT),
        beside("gateway requests per CPU second", broker, [1e3 / turn.cpu_s for turn in own], "requests",
               [1e3 / turn.cpu_s for turn in base]),
        beside(f"gateway CPU of 1,000 requests, {PACE:g}/s", broker, [turn.paced_cpu_s for turn in own], "s",
               [turn.paced_cpu_s for turn in base]),
    ])  # fmt: skip


async def take_turns(listeners: Mapping[str, Listener], seconds: float) -> Rounds[dict[str, Turn]]:
    """Load listeners in turns, whose order alternates, after a warm-up."""

    async def take(number: int) -> dict[str, Turn]:
        order = list(listeners)[:: -1 if number % 2 else 1]
        return {name: await _take_turn(listeners[name], seconds) for name in order}

    await take(0)
    return await take_rounds(take)


async def _take_turn(listener: Listener, seconds: float) -> Turn:
    """Load at full speed, then at a steady rate."""
    full, cpu_of_full_s = await _load_on(listener, seconds, 0.0)
    paced, cpu_of_paced_s = await _load_on(listener, seconds, PACE)
    return Turn(full.per_second, cpu_of_full_s, paced.p50_ms, paced.p99_ms, cpu_of_paced_s)


async def _load_on(listener: Listener, seconds: float, rate: float) -> tuple[MeasuredLoad, float]:
    """Load a listener. Returns the load's result, and the server's CPU seconds of 1,000 requests."""
    server = psutil.Process(listener.pid)
    before_s = cpu_s(server)
    load = await listener.load(seconds, rate)
    return load, 1e3 * (cpu_s(server) - before_s) / (load.per_second * seconds)


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
