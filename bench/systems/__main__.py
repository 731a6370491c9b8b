"""`make bench-systems`: simulates systems beside each other, and writes docs/systems.md."""

import argparse
from collections.abc import Iterable, Sequence
from typing import Final

from bench.page_plots import draw
from bench.results import SYSTEMS
from bench.simulations import SEED, run_jobs
from bench.systems.comparison import ComparisonRun, after_peak, compare, fleet_of, overload, throughput
from bench.systems.page import Results, page
from bench.systems.workloads import AFTER_PEAK, AFTER_PEAK_SEEDS, FIXED, WORKLOADS
from simulator.replications import spawned_pool
from simulator.scenario_file import INFAAS

_SYSTEMS: Final = (
    "infaas-paper",
    "infaas-code",
    "static",
    "individual",
    "slackfit",
    "proteus-fleet",
    "ray-serve",
    "keda",
)
_FIXED: Final = (INFAAS, "infaas-paper", "static", "individual", "slackfit-fixed", "proteus")
"""Systems on fixed hardware, all of which runs from the start."""
_AFTER_PEAK: Final = (INFAAS, "static", "individual", "slackfit", "static on V100", "individual on V100")
_OVERLOADS: Final = ("bursty", "diurnal")


def main() -> None:
    """Run the comparisons, or the part of them that the arguments name."""
    parser = argparse.ArgumentParser(prog="bench.systems", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--systems", nargs="*", default=_SYSTEMS)
    parser.add_argument("--workloads", nargs="*", default=WORKLOADS)
    asked = parser.parse_args()
    seeds = range(SEED, SEED + asked.seeds)
    after = _jobs([AFTER_PEAK], _AFTER_PEAK, range(SEED, SEED + AFTER_PEAK_SEEDS))
    own, fixed = _jobs(asked.workloads, [INFAAS], seeds), _jobs(FIXED, _FIXED, seeds)
    with spawned_pool() as pool:
        ours = run_jobs(pool, compare, own, INFAAS)
        fleets = {(job.workload, job.seed): fleet_of(row) for job, row in zip(own, ours, strict=True)}
        others = [
            job._replace(fleet=fleets[job.workload, job.seed] if job.system == "proteus-fleet" else None)
            for job in _jobs(asked.workloads, asked.systems, seeds)
        ]
        results = Results(
            seeds=list(seeds),
            rows=ours + run_jobs(pool, compare, others, "other systems"),
            after_peak=run_jobs(pool, after_peak, after, "low load after a peak"),
            overload=run_jobs(pool, overload, _jobs(_OVERLOADS, _FIXED, seeds), "overload"),
            throughput=list(zip(fixed, run_jobs(pool, throughput, fixed, "throughput"), strict=True)),
        )
    SYSTEMS.write_text(page(results))
    draw(SYSTEMS)


def _jobs(workloads: Iterable[str], systems: Sequence[str], seeds: Sequence[int]) -> list[ComparisonRun]:
    return [ComparisonRun(workload, system, seed) for workload in workloads for system in systems for seed in seeds]


if __name__ == "__main__":
    main()
