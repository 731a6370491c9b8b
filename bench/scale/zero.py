"""Scale to zero: memory freed by an idle task, and latency of the first query after it."""

import asyncio
import time
from pathlib import Path
from typing import Final

import psutil

from bench.core.figures import Figure, plain, within
from bench.core.system import SystemUnderTest, running_at
from infaas.client import Answer, InfaasClient
from schemas.latency import LatencyModel
from store.catalog import load_catalog
from store.placement import list_instances
from store.pool import Pool, open_pool
from store.shared_connection import PLACEMENT, ChangeListener
from zoo.samples import labelled

_TASK: Final = "sentiment"
_MIN_ACCURACY: Final = 0.86
"""Least accuracy that only the transformers reach, which take longest to load."""
_IDLE_S: Final = 8.0
_LOADED_S: Final = 6.0
"""Seconds after which all useful variants are loaded, and none is unloaded yet."""
_ROUNDS: Final = 5
_ALLOWED_S: Final = 0.5
_GONE_S: Final = 120.0
_UNLOAD_S: Final = 2.0


async def measure(home: Path, broker: str) -> list[Figure]:
    """Query the task, wait until none of its variants is loaded, and query again; uses the models in `home`."""
    env = {"INFAAS_AUTOSCALER_SCALE_TO_ZERO_DELAY_S": str(_IDLE_S)}
    async with (
        running_at(home, broker, flags=("--workers=1",), env=env) as system,
        open_pool(system.postgres, max_size=1) as pool,
        InfaasClient(kafka=system.kafka) as client,
    ):
        worker = psutil.Process(await system.pid_of("worker"))
        await _ask(client)
        await asyncio.sleep(_LOADED_S)
        loaded = worker.memory_info().rss
        await _wait_until_gone(system, pool)
        freed = loaded - worker.memory_info().rss
        overheads: list[float] = []
        for _ in range(_ROUNDS):
            began = time.monotonic()
            answer = await _ask(client)
            overheads.append(time.monotonic() - began - await _cold_s(pool, answer.variant))
            await _wait_until_gone(system, pool)
    name = f"first query after scale to zero, beyond load and inference, worst of {_ROUNDS}"
    return [
        plain("scale to zero: memory freed", broker, freed / 2**20, "MiB"),
        within(name, broker, max(overheads), "s", _ALLOWED_S),
    ]


async def _ask(client: InfaasClient) -> Answer:
    """Send one input, without a deadline."""
    inputs, _labels = labelled(_TASK)
    return await client.infer(_TASK, {name: array[:1] for name, array in inputs.items()}, min_accuracy=_MIN_ACCURACY)


async def _cold_s(pool: Pool, variant: str) -> float:
    """Return the profiled seconds to load the variant and to compute one input."""
    profile = (await load_catalog(pool)).profiles[variant]
    return profile.load_s + LatencyModel(profile.latency, 1).batch_s(1)


async def _wait_until_gone(system: SystemUnderTest, pool: Pool) -> None:
    """Wait until no instance of the task is wanted, and for a time in which the worker can unload."""
    catalog = await load_catalog(pool)
    async with ChangeListener(system.postgres, [PLACEMENT]) as changes, asyncio.timeout(_GONE_S):
        async for _channel in changes:
            if all(catalog.variants[row.variant].task != _TASK for row in await list_instances(pool)):
                break
    await asyncio.sleep(_UNLOAD_S)
