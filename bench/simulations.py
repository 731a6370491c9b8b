"""Parts that the simulated comparisons share: seeds, and jobs on all cores with a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final, TypeVar

from rich.progress import track

SEED: Final = 11
"""First of the seeds that are reported."""
TUNED: Final = (
    "The policy was tuned on seed 0, with flat, bursty and diurnal loads of ten workers, and two of its rules also on "
    "an Azure trace with bursts; forecast, peak of a load, spread and delay of fewer workers on seed 5, with bursty "
    "and diurnal loads, that trace and ServeGen. Those traces are reported as well. Mechanisms were kept or deleted by "
    "the seeds 11, 12 and 13."
)
"""Seeds and loads by which decisions of the policy were made."""
_Job = TypeVar("_Job")
_Found = TypeVar("_Found")


def run_jobs(pool: Executor, run: Callable[[_Job], _Found], jobs: Sequence[_Job], name: str) -> list[_Found]:
    """Run jobs, and return their results in the same order; `name` stands before the progress bar."""
    return list(track(pool.map(run, jobs), name, len(jobs)))
