"""CPU of a query through a gateway that asks who asks, over one that does not.

Both run beside each other and are asked at the same steady rate in turns, each turn in the other order: what is told
apart is a few microseconds of some hundred, and the machine drifts more than that from one minute to the next. What
counts is the median of the turns' ratios.
"""

import os
import uuid
from contextlib import AsyncExitStack
from statistics import median
from typing import TYPE_CHECKING

from bench.core.figures import Figure, at_most
from bench.throughput.gateway import PACE, database_of, load_on, running_gateway, running_module
from bench.throughput.gateway_baseline import PARTITIONS
from bench.throughput.http_load import KEY_ENV
from broker.topics import ensure_task_topics
from process.ports import LOOPBACK, free_port
from schemas.principal import Role
from schemas.rows.api_keys import ApiKeyRow
from schemas.topics import task_topic
from security.api_keys import ID_BYTES, SECRET_BYTES, make_key
from store.api_keys import put_key
from store.pool import open_pool

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest
    from broker.settings import KafkaSettings

ROUNDS = 12
SECONDS = 4.0
LIMIT = 1.03
_MANY = 1_000_000


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure CPU time of 1,000 requests with a key, and with one that has quotas and tasks, over none."""
    return [
        at_most(f"gateway CPU of 1,000 requests with {name}, {PACE:g}/s", broker, cost_s, "s", bare_s, LIMIT)
        for name, (cost_s, bare_s) in (await measure_prices(system.kafka)).items()
    ]


async def measure_prices(
    kafka: "KafkaSettings", rounds: int = ROUNDS, seconds: float = SECONDS, pace: float = PACE
) -> dict[str, tuple[float, float]]:
    """Seconds of CPU of 1,000 requests with `a key` and with `a key with quotas`, each beside that of none."""
    task = f"bench-{uuid.uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, PARTITIONS)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(database_of(task))
        await stack.enter_async_context(
            running_module(kafka, "bench.throughput.gateway_baseline", "answer", task_topic(task))
        )
        ports = free_port(), free_port()
        open_pid = await stack.enter_async_context(running_gateway(kafka, dsn, ports[0]))
        keyed_pid = await stack.enter_async_context(running_gateway(kafka, dsn, ports[1], "--auth", "true"))
        keys = await _keys(dsn, task)
        servers = {"": (open_pid, ports[0], "")} | {name: (keyed_pid, ports[1], key) for name, key in keys.items()}
        turns: list[dict[str, float]] = []
        for number in range(rounds + 1):
            names, costs = list(servers)[:: 1 if number % 2 else -1], dict[str, float]()
            for name in names:
                pid, port, key = servers[name]
                url = f"http://{LOOPBACK}:{port}/v2/models/{task}/infer"
                costs[name] = 1000 / (await load_on(pid, url, seconds, pace, {KEY_ENV: key}))[1]
            if number:  # the first round warms everything up
                turns.append(costs)
    bare_s = median(costs[""] for costs in turns)
    return {name: (bare_s * median(costs[name] / costs[""] for costs in turns), bare_s) for name in keys}


async def _keys(dsn: str, task: str) -> dict[str, str]:
    plain, limited = (make_key(os.urandom(ID_BYTES + SECRET_BYTES)) for _ in range(2))
    async with open_pool(dsn, max_size=1) as pool:
        for key in (plain, limited):
            row = ApiKeyRow(
                id=key.id,
                secret_hash=key.hash(),
                tenant="bench",
                roles=[Role.QUERY],
                tasks=[task] if key is limited else None,
                per_second=_MANY if key is limited else None,
                concurrent=_MANY if key is limited else None,
            )
            await put_key(pool, row)
    return {"a key": str(plain), "a key with quotas": str(limited)}
