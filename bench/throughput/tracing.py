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
from math import prod, sqrt
from operator import truediv
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from aiohttp import web
from msgspec.structs import replace
from rich.console import Console

from bench.core.figures import Figure, at_most
from bench.core.rounds import ROUNDS, Rounds, take_rounds
from bench.core.system import running_at
from bench.load.http_load import compiled_client
from bench.throughput.cost import TASK, WARM_UP_S, Cost, cost_of_system, described, http_load, load_shape, totals_ms
from process.sockets import LOOPBACK, free_port

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

RATE: Final = 900.0
SHARE: Final = 0.01
LIMIT: Final = 1.02
_SECONDS: Final = 10.0


async def measure(_system: "SystemUnderTest", broker: str, console: Console) -> list[Figure]:
    """Measure two systems of its own; the one that is up idles meanwhile."""
    with tempfile.TemporaryDirectory(prefix="infaas-traces-") as folder:
        homes = [Path(folder, name) for name in ("one", "other")]
        async with compiled_client() as client, receiver() as endpoint:
            halves = [
                await _half(homes[::order], broker, endpoint, client, console, register=order > 0) for order in (1, -1)
            ]
    first, second = halves
    rounds = Rounds(first.taken + second.taken, first.loops_s + second.loops_s, first.repeated + second.repeated)
    off, on = (totals_ms(costs) for costs in zip(*rounds.taken, strict=True))
    ratio = sqrt(prod(median(map(truediv, on[half], off[half])) for half in (slice(ROUNDS), slice(ROUNDS, None))))
    name = f"CPU a query with {SHARE:.0%} traced over none, {RATE:g}/s"
    figure = at_most(name, broker, median(off) * ratio, "ms", off, LIMIT)
    return rounds.of([replace(figure, rounds=on)])


async def _half(
    homes: list[Path], broker: str, endpoint: str, client: Path, console: Console, *, register: bool
) -> Rounds[tuple[Cost, Cost]]:
    """Return the milliseconds per query without and with traces; the first home has none."""
    tasks = (TASK,) if register else ()
    async with (
        running_at(homes[0], broker, *tasks) as off,
        running_at(homes[1], broker, *tasks, env=variables(endpoint)) as on,
    ):
        loads = [(system, http_load(system, client)) for system in (off, on)]
        for _, load in loads:
            await load.run(load_shape(RATE, WARM_UP_S))

        async def take(number: int) -> tuple[Cost, Cost]:
            order = -1 if number % 2 else 1
            costs = [await cost_of_system(*one, load_shape(RATE, _SECONDS), console) for one in loads[::order]]
            without, traced = costs[::order]
            return without, traced

        rounds = await take_rounds(take)
    without, traced = (list(costs) for costs in zip(*rounds.taken, strict=True))
    console.log(f"none {described(without)}; traced {described(traced)}")
    return rounds


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
