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

from rich.console import Console

from bench.core.figures import Figure
from bench.core.system import running_at
from bench.results import SCALE_PLOTS, origin, publish
from bench.scale import (
    catalog_change,
    cluster,
    deciding,
    fleet,
    milp,
    ray_cluster,
    recorder,
    selection,
    simulation,
    statuses,
    steps,
    web_console,
    zero,
)
from bench.scale.loads import TASKS

BROKER: Final = "apache"


Measure = Callable[[Path, float], Awaitable[list[Figure]]]
BENCHES: Final[dict[str, Measure]] = {
    "steps": lambda home, seconds: steps.measure(home, BROKER, seconds, SCALE_PLOTS),
    "zero": lambda home, _seconds: zero.measure(home, BROKER),
    "ray": lambda home, _seconds: ray_cluster.measure(home, BROKER),
    "recorder": lambda home, _seconds: recorder.measure(home, BROKER),
    "milp": lambda _home, _seconds: milp.measure(),
    "selection": lambda _home, _seconds: selection.measure(),
    "statuses": lambda _home, _seconds: statuses.measure(),
    "simulation": lambda _home, _seconds: simulation.measure(),
    "catalog": lambda _home, _seconds: catalog_change.measure(),
    "deciding": lambda _home, _seconds: deciding.measure(),
    "cluster": lambda home, _seconds: cluster.measure(home, BROKER),
    "console": lambda home, _seconds: web_console.measure(home, BROKER),
    "fleet": lambda _home, _seconds: fleet.measure(),
    "registering": lambda _home, _seconds: fleet.measure_registration(),
}
_NEED_MODELS: Final = {"steps", "zero"}


async def _run(only: list[str], seconds: float, home: Path, console: Console) -> None:
    if _NEED_MODELS & set(only):
        console.log("registering")
        async with running_at(home, BROKER, *TASKS):
            pass
    begin = origin()
    for name in only:
        console.log(name)
        publish(console, await BENCHES[name](home, seconds), begin, "scale")


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=list(BENCHES))
    parser.add_argument("--seconds", type=float, default=180.0, help="duration of the load of each fleet in `steps`")
    parser.add_argument("--home", type=Path, help="folder of the system; kept, so that models are registered only once")
    wanted = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        asyncio.run(_run(wanted.only, wanted.seconds, wanted.home or Path(folder), console))


if __name__ == "__main__":
    main()
