"""Run the benches of profiles: `python -m bench.profiles [--only repeating interfering predicting]`.

Writes `bench/results.json`, `docs/benchmarks.md` and the README's table; figures of other runs are kept.
"""

import argparse
import asyncio
from typing import Final

from rich.console import Console

from bench.core.figures import Figure
from bench.core.system import running_system
from bench.profiles import interfering, predicting, repeating
from bench.results import origin, publish, show

BROKER: Final = "apache"
BENCHES: Final = ("repeating", "interfering", "predicting")


async def _run(only: set[str], console: Console) -> list[Figure]:
    figures: list[Figure] = []
    if "repeating" in only:
        console.log("repeated profiles of the same variants")
        figures += await repeating.measure()
    if "interfering" in only:
        console.log("batches beside a busy slot")
        figures += await asyncio.to_thread(interfering.measure)
    if "predicting" in only:
        async with running_system(BROKER, *predicting.TASKS) as system:
            console.log("predictions against measurements")
            figures += await predicting.measure(system, BROKER)
    return figures


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=BENCHES)
    parser.add_argument("--dry", action="store_true", help="do not write results")
    wanted = parser.parse_args()
    console, begin = Console(), origin()
    found = asyncio.run(_run(set(wanted.only), console))
    if wanted.dry:
        show(console, found)
    else:
        publish(console, found, begin, "scale")


if __name__ == "__main__":
    main()
