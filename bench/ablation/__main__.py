"""`make bench-ablation`: simulates each workload without each mechanism, and writes docs/ablation.md."""

import argparse
from collections.abc import Sequence
from typing import Final

from bench.ablation.differences import differences
from bench.ablation.inventory import MECHANISMS
from bench.ablation.mechanism import Area
from bench.ablation.page import page
from bench.ablation.sensitivity import sensitivity_trials
from bench.ablation.trial import AblationTrial, run_trial
from bench.ablation.workloads import WORKLOADS
from bench.results import ABLATION, origin
from bench.simulations import SEED, run_jobs
from simulator.replications import spawned_pool

_SENSITIVITY_SEEDS: Final = 1


def _trials(seeds: Sequence[int], areas: Sequence[str], only: Sequence[str]) -> list[AblationTrial]:
    """Return the trials without mechanisms, and the unchanged ones that they are compared with."""
    without = [
        AblationTrial(workload.name, seed, mechanism.name)
        for mechanism in MECHANISMS.values()
        if not mechanism.unseen and mechanism.area in areas and (not only or mechanism.name in only)
        for workload in WORKLOADS.values()
        if mechanism.area in workload.areas
        for seed in seeds
    ]
    if not only:
        without += [trial for seed in seeds[:_SENSITIVITY_SEEDS] for trial in sensitivity_trials(seed)]
    return [*dict.fromkeys(AblationTrial(one.workload, one.seed) for one in without), *without]


def main() -> None:
    """Run the ablation, or the part of it that the arguments name."""
    parser = argparse.ArgumentParser(prog="bench.ablation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--areas", nargs="*", choices=list(Area), default=list(Area))
    parser.add_argument("--only", nargs="*", choices=MECHANISMS, default=[], help="mechanisms; prints the page")
    asked = parser.parse_args()
    seeds = range(SEED, SEED + asked.seeds)
    trials = _trials(seeds, asked.areas, asked.only)
    with spawned_pool() as pool:
        figures = run_jobs(pool, run_trial, trials, "simulating")
    found = differences(dict(zip(trials, figures, strict=True)))
    text = page(found, f"Seeds {', '.join(map(str, seeds))}, commit {origin()}")
    if asked.only:
        print(text)
    else:
        ABLATION.write_text(text)


if __name__ == "__main__":
    main()
