"""`make bench-systems`: simulates each workload with each system, and writes docs/systems.md."""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Final

from rich.progress import track

from bench.results import SYSTEMS
from bench.systems.comparison import compare, page
from bench.systems.workloads import SEED, WORKLOADS
from simulator.scenario_file import INFAAS

_SYSTEMS: Final = (
    INFAAS, "infaas-paper", "infaas-code", "static", "individual", "ray-serve", "keda", "slackfit", "proteus-fleet",
)  # fmt: skip


def main() -> None:
    """Run the comparison, or the part of it that the arguments name."""
    parser = argparse.ArgumentParser(prog="bench.systems", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--systems", nargs="*", default=_SYSTEMS)
    parser.add_argument("--workloads", nargs="*", default=WORKLOADS)
    asked = parser.parse_args()
    seeds = range(SEED, SEED + asked.seeds)
    runs = [(workload, system, seed) for workload in asked.workloads for system in asked.systems for seed in seeds]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = list(track(pool.map(compare, runs), "simulating", len(runs)))
    SYSTEMS.write_text(page(rows, list(seeds)))


if __name__ == "__main__":
    main()
