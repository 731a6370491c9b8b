"""Cost of authentication in a gateway, against a gateway without it; the order alternates between turns."""

import os
import uuid
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from bench.core.figures import Figure
from bench.throughput.gateway import database_of, running_gateway, running_module
from bench.throughput.gateway_baseline import PARTITIONS
from bench.throughput.http_load import KEY_ENV
from bench.throughput.turns import figures_of, take_turn
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

ROUNDS = 8
SECONDS = 3.0
LIMIT = 1.03
_MANY = 1_000_000


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, with a key, and with a key that has quotas and tasks."""
    turns = await measure_prices(system.kafka)
    bare = turns.pop("")
    return [one for name, rows in turns.items() for one in figures_of(f"{name} over none", broker, rows, bare, LIMIT)]


async def measure_prices(
    kafka: "KafkaSettings", rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, list[list[float]]]:
    """Return rows, one per turn, of `a key`, of `a key with quotas`, and under an empty name without a key."""
    task = f"bench-{uuid.uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, PARTITIONS)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(database_of(kafka, task))
        await stack.enter_async_context(
            running_module(kafka, "bench.throughput.gateway_baseline", "answer", task_topic(task))
        )
        ports = free_port(), free_port()
        open_pid = await stack.enter_async_context(running_gateway(kafka, dsn, ports[0]))
        keyed_pid = await stack.enter_async_context(running_gateway(kafka, dsn, ports[1], "--auth", "true"))
        keys = await _keys(dsn, task)
        servers = {"": (open_pid, ports[0], "")} | {name: (keyed_pid, ports[1], key) for name, key in keys.items()}
        found: dict[str, list[list[float]]] = {name: [] for name in servers}
        for number in range(rounds + 1):
            for name in list(servers)[:: 1 if number % 2 else -1]:
                pid, port, key = servers[name]
                url = f"http://{LOOPBACK}:{port}/v2/models/{task}/infer"
                row = await take_turn(pid, url, seconds, {KEY_ENV: key})
                if number:  # the first round is the warm-up
                    found[name].append(row)
    return found


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
