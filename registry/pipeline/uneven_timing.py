"""Times a model whose batches take different time for different inputs, such as a cascade.

Runs of such a model differ on a quiet machine as well. None is discarded for being long, which would exclude the inputs
that take long; only the time without a core is subtracted. The result is the mean, over enough rows for the share of
slow inputs to be representative.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Final

import numpy as np

from registry.pipeline.timing import Case, Run, Timing, without_loss

_WARM_UP_RUNS: Final = 2
_ROWS: Final = 400
_FEW_RUNS: Final = 30
_FEWEST_RUNS: Final = 6
_BUDGET_S: Final = 2.0


def time_uneven(cases: Mapping[int, Case]) -> list[Timing]:
    """Time cases, by the rows in a batch of each, over enough rows for a meaningful mean.

    Each case stops at its budget. A case is called with 0, 1 and so on, and computes other rows each time.
    """
    return [_time(case, size) for size, case in cases.items()]


def _time(case: Case, size: int) -> Timing:
    for turn in range(_WARM_UP_RUNS):
        case(turn)
    runs, wanted = list[Run](), max(_FEW_RUNS, -(-_ROWS // size))
    spent_s = 0.0
    while len(runs) < wanted and (len(runs) < _FEWEST_RUNS or spent_s < _BUDGET_S):
        runs.append(case(len(runs)))
        spent_s += runs[-1].wall_s
    return uneven_timing(runs)


def uneven_timing(runs: Sequence[Run]) -> Timing:
    """Return the timing of runs that all count, without the time that they lost."""
    seconds = [without_loss(run).wall_s for run in runs]
    p50_s, p99_s = np.quantile(seconds, (0.5, 0.99), method="higher")
    lost = sum(run.lost_s for run in runs) / sum(run.wall_s for run in runs)
    cpu_s = median(run.cpu_s for run in runs)
    return Timing(float(p50_s), float(p99_s), cpu_s, len(runs), 0, lost, fmean(seconds))
