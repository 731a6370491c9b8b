"""CPU time of an idle system with the zoo loaded: all its processes, with Kafka and Postgres.

CPU time does not depend on other work on the machine. The log shows the time of each process.
"""

import asyncio
from typing import Final

import msgspec
import psutil
from rich.console import Console

from bench.core.figures import Figure, within
from bench.core.programs import cpu_seconds
from bench.core.system import SystemUnderTest
from schemas.status import SERVING
from store.placement import list_instances
from store.pool import Pool, open_pool

LIMITS: Final = {"apache": 5.0, "embedded": 15.0}
"""Percent of a core."""
WINDOW_S: Final = 60.0
_SETTLE_S: Final = 45.0
"""Longer than the autoscaler's delay before it scales down."""
_LOADED_S: Final = 120.0
_LOOK_INTERVAL_S: Final = 0.5


async def measure(system: SystemUnderTest, broker: str, console: Console, window_s: float = WINDOW_S) -> list[Figure]:
    """Measure the percent of a core in a window without queries. The system must be up, with the zoo registered."""
    async with open_pool(system.postgres, max_size=1) as pool:
        async with asyncio.timeout(_LOADED_S):
            await _until_loaded(pool)
    await asyncio.sleep(_SETTLE_S)
    supervisor = psutil.Process(system.pid)
    before = cpu_seconds(supervisor)
    await asyncio.sleep(window_s)
    after = cpu_seconds(supervisor)
    shares = {name: 100 * (seconds - before.get(name, 0.0)) / window_s for name, seconds in after.items()}
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        console.log(f"{broker}: {share:6.2f} % of a core: {name}")
    name, total, limit = "idle with the zoo loaded, CPU of all processes", sum(shares.values()), LIMITS[broker]
    figure = within(name, broker, total, "%", limit)
    return [msgspec.structs.replace(figure, unit="% of a core")]


async def _until_loaded(pool: Pool) -> None:
    """Wait until there is an instance, and all instances serve."""
    while True:
        instances = await list_instances(pool)
        if instances and all(instance.state in SERVING for instance in instances):
            return
        await asyncio.sleep(_LOOK_INTERVAL_S)
