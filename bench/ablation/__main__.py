"""`make bench-ablation`: simulates each workload without each mechanism, and writes docs/ablation.md."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.progress import track

from bench.ablation.differences import differences
from bench.ablation.inventory import MECHANISMS
from bench.ablation.mechanism import Area
from bench.ablation.page import page
from bench.ablation.sensitivity import ASSUMPTIONS, SETTINGS, sensitivity_trials
from bench.ablation.trial import AblationFigures, AblationTrial, run_trial
from bench.ablation.trial_log import TrialLog
from bench.ablation.workloads import WORKLOADS
from bench.page_plots import draw
from bench.results import ABLATION, origin
from bench.simulations import SEED
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
    settings, assumptions = ([one for one in found if not only or one in only] for found in (SETTINGS, ASSUMPTIONS))
    without += sensitivity_trials(settings, seeds[:_SENSITIVITY_SEEDS])
    without += sensitivity_trials(assumptions, seeds)
    return [*dict.fromkeys(AblationTrial(one.workload, one.seed) for one in without), *without]


def main() -> None:
    """Run the ablation, or the part of it that the arguments name."""
    present = origin()
    parser = argparse.ArgumentParser(prog="bench.ablation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, help="by default one a core")
    parser.add_argument("--areas", nargs="*", choices=list(Area), default=list(Area))
    parser.add_argument(
        "--only", nargs="*", choices=[*MECHANISMS, *SETTINGS, *ASSUMPTIONS], default=[],
        help="mechanisms, settings and assumptions; prints the page",
    )  # fmt: skip
    parser.add_argument(
        "--log", type=Path, default=Path(f"build/ablation/{present.commit}.jsonl"),
        help="file of finished trials, which are not simulated again; of another commit: only writes the page",
    )  # fmt: skip
    asked = parser.parse_args()
    log = TrialLog(asked.log, present)
    if log.is_open:
        seeds = range(SEED, SEED + asked.seeds)
        rest = [trial for trial in _trials(seeds, asked.areas, asked.only) if trial not in log.figures]
        for trial, figures in _simulated(rest, asked.processes):
            log.add(trial, figures)
    text = page(differences(log.figures), f"Commit {log.origin}")
    if asked.only:
        print(text)
    else:
        ABLATION.write_text(text)
        draw(ABLATION)


def _simulated(
    trials: Sequence[AblationTrial], processes: int | None
) -> Iterator[tuple[AblationTrial, AblationFigures]]:
    with spawned_pool(processes) as pool:
        yield from zip(trials, track(pool.map(run_trial, trials), "simulating", len(trials)), strict=True)


if __name__ == "__main__":
    main()
