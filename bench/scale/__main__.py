"""Run the benches of scale: `python -m bench.scale [--only NAME ...] [--seconds 300]`.

All run on a real Apache Kafka. Each writes `bench/results.json`, `docs/benchmarks.md`, the README's table and its plots
in `docs/scale/` at its end; figures of other runs are kept.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from bench.__main__ import show
from bench.core.figures import Figure
from bench.core.system import running_at
from bench.results import write_results
from bench.scale import deciding, fleet, milp, ray_cluster, recorder, registering, selection, steps, zero

BROKER: Final = "apache"
PLOTS: Final = Path(__file__).parents[2] / "docs" / "scale"


async def _steps(home: Path, seconds: float) -> list[Figure]:
    return await steps.measure(home, BROKER, seconds, PLOTS / "steps.svg")


async def _zero(home: Path, _seconds: float) -> list[Figure]:
    return await zero.measure(home, BROKER)


async def _ray(home: Path, _seconds: float) -> list[Figure]:
    return await ray_cluster.measure(home, BROKER)


async def _recorder(home: Path, _seconds: float) -> list[Figure]:
    return await recorder.measure(home, BROKER)


async def _milp(_home: Path, _seconds: float) -> list[Figure]:
    return milp.measure()


async def _selection(_home: Path, _seconds: float) -> list[Figure]:
    return selection.measure()


async def _deciding(_home: Path, _seconds: float) -> list[Figure]:
    return deciding.measure()


async def _fleet(_home: Path, _seconds: float) -> list[Figure]:
    return await fleet.measure()


async def _registering(_home: Path, _seconds: float) -> list[Figure]:
    return await registering.measure()


BENCHES: Final[dict[str, Callable[[Path, float], Awaitable[list[Figure]]]]] = {
    "steps": _steps,
    "zero": _zero,
    "ray": _ray,
    "recorder": _recorder,
    "milp": _milp,
    "selection": _selection,
    "deciding": _deciding,
    "fleet": _fleet,
    "registering": _registering,
}
_NEED_MODELS: Final = {"steps", "zero"}


async def _run(only: list[str], seconds: float, home: Path, console: Console) -> None:
    if _NEED_MODELS & set(only):
        console.log("registering")
        async with running_at(home, BROKER, *steps.TASKS):
            pass
    for name in only:
        console.log(name)
        found = await BENCHES[name](home, seconds)
        show(console, found)
        write_results([msgspec.structs.replace(figure, group="scale") for figure in found])


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=list(BENCHES))
    parser.add_argument("--seconds", type=float, default=300.0, help="duration of the load in steps")
    parser.add_argument("--home", type=Path, help="folder of the system; kept, so that models are registered only once")
    wanted = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        asyncio.run(_run(wanted.only, wanted.seconds, wanted.home or Path(folder), console))


if __name__ == "__main__":
    main()
