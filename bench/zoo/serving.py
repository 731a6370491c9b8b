"""Mixed load over a hundred variants, by name, on one worker with less memory than all of them need.

Their popularity follows a Zipf distribution. A query is a hit if its variant is loaded when the query is sent. The
selector demands a variant that is not loaded, and the autoscaler places it by evicting an idle one.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.core.figures import Figure, percentile, plain
from bench.core.system import SystemUnderTest
from bench.load.pace import pace
from bench.zoo.models import PIXELS
from bench.zoo.registering import TASK
from infaas.client import InfaasClient
from schemas.errors import QueryError
from schemas.rows.catalog import VariantState
from schemas.status import InstanceState
from store.placement import list_instances
from store.pool import Pool, open_pool
from store.registry import list_variants

VARIANTS: Final = 100
RATE: Final = 10.0
"""Queries per second."""
_LATENCY_MS: Final = 10_000.0
_LOOK_S: Final = 0.2
_SAID_S: Final = 30.0
_SEED: Final = 0


class _LoadedVariants:
    """Names of the variants that are loaded now, and the number of loads."""

    def __init__(self) -> None:
        self.names = frozenset[str]()
        self.most = 0
        self.loads = 0

    def update(self, names: frozenset[str]) -> None:
        """Set the variants that are loaded now."""
        self.loads += len(names - self.names)
        self.most = max(self.most, len(names))
        self.names = names


class _AskedVariant(msgspec.Struct):
    """Result of one query."""

    hit: bool
    status: str = "lost"
    seconds: float = 0.0


async def serve(system: SystemUnderTest, seconds: float) -> list[Figure]:
    """Send queries for `seconds` at a steady rate, and wait for every answer."""
    random = np.random.default_rng(_SEED)
    async with open_pool(system.postgres, max_size=1) as pool:
        names = await _chosen(pool)
        weights = 1 / np.arange(1, len(names) + 1)
        order = random.choice(random.permutation(names), int(seconds * RATE), p=weights / weights.sum())
        image = random.standard_normal((1, 3, PIXELS, PIXELS), dtype=np.float32)
        asked: list[_AskedVariant] = []
        async with _watching(pool) as loaded, InfaasClient(kafka=system.kafka) as client, asyncio.TaskGroup() as tasks:
            before, names_in_order = loaded.loads, order.tolist()
            async for number in pace(RATE, len(names_in_order)):
                name: str = names_in_order[number]
                query = _AskedVariant(name in loaded.names)
                asked.append(query)
                if number % round(_SAID_S * RATE) == 0:
                    print(f"{number / RATE:.0f} of {seconds:.0f} s: {len(loaded.names)} loaded", flush=True)
                tasks.create_task(_ask(client, name, image, query), name=f"query {number}")
        return _figures(len(names), asked, loaded, loaded.loads - before)


async def _chosen(pool: Pool) -> list[str]:
    """Return variants of as many architectures as possible: first one of each, then a second one of each, and so on."""
    ready = [variant for variant in await list_variants(pool, task=TASK) if variant.state is VariantState.READY]
    seen: dict[str, int] = {}
    ranked: list[tuple[int, str]] = []
    for variant in ready:
        seen[variant.architecture] = seen.get(variant.architecture, -1) + 1
        ranked.append((seen[variant.architecture], variant.name))
    return [name for _rank, name in sorted(ranked)[:VARIANTS]]


async def _ask(client: InfaasClient, name: str, image: NDArray[np.float32], query: _AskedVariant) -> None:
    began = time.monotonic()
    try:
        await client.infer(TASK, {"image": image}, target=name, latency_ms=_LATENCY_MS)
        query.status = "ok"
    except QueryError as error:
        query.status = error.code
    query.seconds = time.monotonic() - began


@asynccontextmanager
async def _watching(pool: Pool) -> AsyncGenerator[_LoadedVariants]:
    """Keep the set of loaded variants up to date while the context is open."""
    loaded = _LoadedVariants()

    async def look() -> None:
        rows = await list_instances(pool)
        loaded.update(frozenset(row.variant for row in rows if row.state == InstanceState.ACTIVE))

    async def keep_looking() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await look()

    await look()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(keep_looking(), name="watch instances")
        try:
            yield loaded
        finally:
            watching.cancel()


def _figures(variants: int, asked: list[_AskedVariant], loaded: _LoadedVariants, loads: int) -> list[Figure]:
    hits = [query for query in asked if query.hit]
    answered = [query.seconds for query in asked if query.status == "ok"]
    answered_hits = [query.seconds for query in hits if query.status == "ok"]
    named = f"{variants} variants queried by name, one worker"
    values = [
        (f"{named}: hit rate", 100 * len(hits) / len(asked), "%"),
        (f"{named}: answered", 100 * len(answered) / len(asked), "%"),
        (f"{named}: most loaded at once", loaded.most, ""),
        (f"{named}: loads", loads, ""),
    ]
    if answered_hits:
        values.append((f"{named}: p99 of hits", percentile(answered_hits, 0.99) * 1e3, "ms"))
        values.append((f"{named}: p99 of all", percentile(answered, 0.99) * 1e3, "ms"))
    return [plain(name, "apache", value, unit) for name, value, unit in values]
