"""`make bench-systems`: simulates systems beside each other, and writes docs/systems.md."""

import argparse
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final, TypeVar

from rich.progress import track

from bench.results import SYSTEMS
from bench.systems.comparison import ComparisonRun, Row, after_peak, compare, fleet_of, overload, throughput
from bench.systems.page import Results, page
from bench.systems.workloads import AFTER_PEAK, FIXED, SEED, WORKLOADS
from simulator.scenario_file import INFAAS

_SYSTEMS: Final = ("infaas-paper", "infaas-code", "static", "individual", "slackfit", "proteus-fleet")
_FIXED: Final = (INFAAS, "infaas-paper", "static", "individual", "slackfit-fixed", "proteus")
"""Systems on fixed hardware, all of which runs from the start."""
_AFTER_PEAK: Final = (INFAAS, "static", "individual", "slackfit", "static on V100", "individual on V100")
_OVERLOADS: Final = ("bursty", "diurnal")
_R = TypeVar("_R")


def main() -> None:
    """Run the comparisons, or the part of them that the arguments name."""
    parser = argparse.ArgumentParser(prog="bench.systems", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--systems", nargs="*", default=_SYSTEMS)
    parser.add_argument("--workloads", nargs="*", default=WORKLOADS)
    asked = parser.parse_args()
    seeds = range(SEED, SEED + asked.seeds)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:

        def run(
            what: Callable[[ComparisonRun], _R], jobs: Iterable[ComparisonRun], name: str
        ) -> list[tuple[ComparisonRun, _R]]:
            every = list(jobs)
            return list(zip(every, track(pool.map(what, every), name, len(every)), strict=True))

        ours = run(compare, _jobs(asked.workloads, [INFAAS], seeds), INFAAS)
        fleets = {(job.workload, job.seed): fleet_of(row) for job, row in ours}
        others = [
            job._replace(fleet=fleets[job.workload, job.seed] if job.system == "proteus-fleet" else None)
            for job in _jobs(asked.workloads, asked.systems, seeds)
        ]
        results = Results(
            seeds=list(seeds),
            rows=_rows(ours + run(compare, others, "other systems")),
            after_peak=_rows(run(after_peak, _jobs([AFTER_PEAK], _AFTER_PEAK, seeds), "low load after a peak")),
            overload=_rows(run(overload, _jobs(_OVERLOADS, _FIXED, seeds), "overload")),
            throughput=run(throughput, _jobs(FIXED, _FIXED, seeds), "throughput"),
        )
    SYSTEMS.write_text(page(results))


def _jobs(workloads: Iterable[str], systems: Sequence[str], seeds: Sequence[int]) -> list[ComparisonRun]:
    return [ComparisonRun(workload, system, seed) for workload in workloads for system in systems for seed in seeds]


def _rows(found: Iterable[tuple[ComparisonRun, Row]]) -> list[Row]:
    return [row for _, row in found]


if __name__ == "__main__":
    main()
