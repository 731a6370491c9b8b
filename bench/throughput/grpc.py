"""gRPC against HTTP: the same queries to the two interfaces of one gateway, in turns.

The same process answers both. The client shares the cores with the gateway, and the one of grpc.aio needs more CPU than
aiohttp's. So the gateway's own CPU time is shown as well.
"""

import uuid
from typing import TYPE_CHECKING

from bench.core.figures import Figure
from bench.throughput.gateway import ROUNDS, SECONDS, database_of, running_gateway, running_module
from bench.throughput.gateway_baseline import PARTITIONS
from bench.throughput.turns import figures_of, take_turn
from broker.settings import KafkaSettings
from broker.topics import ensure_task_topics
from process.ports import LOOPBACK, free_port
from schemas.topics import task_topic

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, over gRPC and over HTTP."""
    ours, http = await measure_doors(system.kafka)
    return figures_of("gRPC over HTTP", broker, ours, http)


async def measure_doors(
    kafka: KafkaSettings, rounds: int = ROUNDS, seconds: float = SECONDS
) -> tuple[list[list[float]], list[list[float]]]:
    """Return the values of gRPC and of HTTP, one row per round, in the order of the units."""
    task, port, grpc_port = f"bench-{uuid.uuid4().hex[:8]}", free_port(), free_port()
    await ensure_task_topics(kafka, task, PARTITIONS)
    found: tuple[list[list[float]], list[list[float]]] = ([], [])
    urls = (f"grpc://{LOOPBACK}:{grpc_port}/{task}", f"http://{LOOPBACK}:{port}/v2/models/{task}/infer")
    async with (
        database_of(kafka, task) as dsn,
        running_module(kafka, "bench.throughput.gateway_baseline", "answer", task_topic(task)),
        running_gateway(kafka, dsn, port, "--grpc-port", str(grpc_port)) as gateway,
    ):
        for number in range(rounds + 1):
            for rows, url in zip(found, urls, strict=True):
                row = await take_turn(gateway, url, seconds)
                if number:  # the first round is the warm-up
                    rows.append(row)
    return found
