"""Price of traces: CPU time per query of all processes with 1 % of the queries traced, over that with traces off.

Two systems get the same load in turns. They differ by chance, too, such as by the cores of their servers, by more than
traces cost: in the second half they change roles, and each figure is the geometric mean of both halves. The receiver is
a program of its own that reads and forgets, as a collector on another machine.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from math import sqrt
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from aiohttp import web
from rich.console import Console

from bench.core.figures import Figure, at_most
from bench.core.system import running_at
from bench.load.http_load import compile_client
from bench.throughput.cost import TASK, WARM_UP_S, Cost, cost_of_system, described, http_load, load_shape
from process.sockets import LOOPBACK, free_port

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

RATE: Final = 900.0
SHARE: Final = 0.01
LIMIT: Final = 1.02
ROUNDS: Final = 8
"""Rounds of each half, with a turn of each system."""
_SECONDS: Final = 6.0


async def measure(_system: "SystemUnderTest", broker: str, console: Console) -> list[Figure]:
    """Measure two systems of its own; the one that is up idles meanwhile."""
    with tempfile.TemporaryDirectory(prefix="infaas-traces-") as folder:
        homes = [Path(folder, name) for name in ("one", "other")]
        client = await compile_client(Path(folder))
        async with receiver() as endpoint:
            halves = [
                await _half(homes[::order], broker, endpoint, client, console, register=order > 0) for order in (1, -1)
            ]
    baseline = median(off for half in halves for off, _ in half)
    ratio = sqrt(median(on / off for off, on in halves[0]) * median(on / off for off, on in halves[1]))
    name = f"CPU a query with {SHARE:.0%} traced over none, {RATE:g}/s"
    return [at_most(name, broker, baseline * ratio, "ms", baseline, LIMIT)]


async def _half(
    homes: list[Path], broker: str, endpoint: str, client: Path, console: Console, *, register: bool
) -> list[tuple[float, float]]:
    """Return the milliseconds per query without and with traces, for each round; the first home has none."""
    tasks = (TASK,) if register else ()
    async with (
        running_at(homes[0], broker, *tasks) as off,
        running_at(homes[1], broker, *tasks, env=variables(endpoint)) as on,
    ):
        loads = [(system, http_load(system, client)) for system in (off, on)]
        for _, load in loads:
            await load.run(load_shape(RATE, WARM_UP_S))
        costs: list[list[Cost]] = [[], []]
        for number in range(ROUNDS):
            for which in (0, 1) if number % 2 else (1, 0):
                system, load = loads[which]
                costs[which].append(await cost_of_system(system, load, load_shape(RATE, _SECONDS), console))
    console.log(f"none {described(costs[0])}; traced {described(costs[1])}")
    return [(sum(without.values()), sum(traced.values())) for without, traced in zip(*costs, strict=True)]


def variables(endpoint: str) -> Mapping[str, str]:
    """Return the environment of a system that is traced."""
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_TRACES_SAMPLER_ARG": str(SHARE),
    }


@asynccontextmanager
async def receiver() -> AsyncGenerator[str]:
    """Run a receiver that forgets; yield its URL."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, str(port), env=dict(os.environ))
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _take(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(content_type="application/x-protobuf")


def main() -> None:
    """Run the receiver on the port of the command line."""
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.add_routes([web.post("/v1/traces", _take)])
    web.run_app(app, host=LOOPBACK, port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
