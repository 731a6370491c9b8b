"""Register many real architectures and serve them: `python -m bench.zoo [--count 45] [--home FOLDER] [--only ...]`.

Runs in the environment of torch, which makes the files. Everything is kept in the home, where an interrupted run is
resumed. `--count 3 --home /tmp/zoo` is a test of some minutes; the whole takes about half an hour on two cores.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.core.figures import Figure, beside
from bench.core.system import SystemUnderTest, running_at
from bench.results import origin, publish, show
from bench.throughput.selector import measure_rates
from bench.zoo.models import COUNT, read_architectures
from bench.zoo.registering import TASK, register_all
from bench.zoo.serving import serve
from store.pool import open_pool
from store.registry import list_profiles

BROKER: Final = "apache"
_WORKER: Final = ("--launcher=none", "--workers=1", "--cores-per-worker=1", "--oversubscribe")
_SELECTOR_QUERIES: Final = 20_000
_FEW: Final = 10
_WRITE_S: Final = 1800.0
"""Most seconds for writing the models."""

Part = Callable[[SystemUnderTest, argparse.Namespace], Awaitable[list[Figure]]]


async def _register(system: SystemUnderTest, wanted: argparse.Namespace) -> list[Figure]:
    folder = system.home / "models"
    architectures = (await asyncio.to_thread(read_architectures, folder))[: wanted.count]
    return await register_all(system, folder, architectures)


async def _serve(system: SystemUnderTest, wanted: argparse.Namespace) -> list[Figure]:
    return await serve(system, wanted.seconds)


async def _decide(system: SystemUnderTest, _wanted: argparse.Namespace) -> list[Figure]:
    """Measure a selector's queries per second with the registered profiles, over a few synthetic ones."""
    async with open_pool(system.postgres, max_size=1) as pool:
        profiles = sorted(await list_profiles(pool, task=TASK), key=lambda profile: -profile.accuracy)
    few = await measure_rates(system.kafka, _FEW, _SELECTOR_QUERIES)
    many = await measure_rates(system.kafka, len(profiles), _SELECTOR_QUERIES, profiles=profiles)
    name = f"selector throughput, {len(profiles)} profiles registered for real (baseline: {_FEW} made-up ones)"
    of_many, of_few = ([rate for rate, _bare in rounds.taken] for rounds in (many, few))
    return many.of([beside(name, BROKER, of_many, "queries/s", of_few)])


PARTS: Final[dict[str, Part]] = {"register": _register, "serve": _serve, "decide": _decide}


async def _write_models(folder: Path, count: int) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.zoo.models", folder, str(count))
    try:
        async with asyncio.timeout(_WRITE_S):
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code:
        raise SystemExit(
            "the models could not be written: `make bench-zoo` runs this in an environment with torchvision"
        )


async def _run(home: Path, parts: Sequence[str], wanted: argparse.Namespace, console: Console) -> None:
    begin = origin()
    if "register" in parts:
        console.log("writing the models")
        await _write_models(home / "models", wanted.count)
    flags = (*_WORKER, f"--max-workers={wanted.share}")  # the memory is divided by this number of workers
    async with running_at(home, BROKER, flags=flags) as system:
        for part in parts:
            console.log(part)
            found = await PARTS[part](system, wanted)
            if wanted.count == COUNT:
                publish(console, found, begin, "scale")
            else:
                show(console, found)


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument(
        "--count", type=int, default=COUNT, help="number of architectures; only figures of all are stored"
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="duration of the queries")
    parser.add_argument("--share", type=int, default=16, help="the worker gets this fraction of the memory")
    parser.add_argument("--home", type=Path, help="folder of all data, so that a run can be resumed")
    wanted = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="infaas-zoo-") as folder:
        asyncio.run(_run(wanted.home or Path(folder), wanted.only, wanted, console))


if __name__ == "__main__":
    main()
