"""Cost of one registration for each process that watches the catalog, with a thousand variants registered.

A watcher reads only the changed rows; the baseline reads the whole catalog. The figure is CPU time of the watcher,
without Postgres. To run it alone: `python -m bench.scale.registering`.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Final

from bench.core.figures import Figure
from bench.scale.fleet import a_registration, register, variant_name
from schemas.rows.catalog import Architecture
from store.catalog import Catalog, load_catalog, update_catalog
from store.embedded import EmbeddedPostgres
from store.migrate import upgrade
from store.pool import Pool, open_pool
from store.registry import put_architecture, put_variant

VARIANTS: Final = 1_000
_ROUNDS: Final = 9
_TASK: Final = "fleet"


async def measure() -> list[Figure]:
    """Measure on a server of its own."""
    with tempfile.TemporaryDirectory(prefix="infaas-registering-", ignore_cleanup_errors=True) as folder:
        async with EmbeddedPostgres(Path(folder) / "pg", durable=False) as server:
            await upgrade(server.dsn)
            async with open_pool(server.dsn, max_size=1) as pool:
                return [await _measure(pool)]


async def _measure(pool: Pool) -> Figure:
    await register(pool, "first")
    async with pool.transaction() as session:
        for number in range(VARIANTS):
            name = f"arch{number}"
            await put_architecture(session, Architecture(name=name, task=_TASK, source="0" * 64, source_format="onnx"))
            await put_variant(session, *a_registration(name, _TASK))
    catalog = await load_catalog(pool)
    changed = ["architectures arch7", f"variants {variant_name('arch7')}", f"profiles {variant_name('arch7')}"]
    everything = await _cpu_ms(lambda: load_catalog(pool))
    what_changed = await _cpu_ms(lambda: update_catalog(pool, catalog, changed))
    return Figure(
        name=f"one registration among {VARIANTS} variants, per catalog watcher (baseline: reads everything)",
        broker="none", value=what_changed, unit="ms", baseline=everything, ratio=what_changed / everything,
    )  # fmt: skip


async def _cpu_ms(read: Callable[[], Awaitable[Catalog]]) -> float:
    took = list[float]()
    for _ in range(_ROUNDS):
        began = time.process_time()
        await read()
        took.append((time.process_time() - began) * 1e3)
    return median(took)


if __name__ == "__main__":
    for figure in asyncio.run(measure()):
        print(f"{figure.name:90} {figure.value:8.3g} {figure.baseline:8.3g} {figure.unit}")
