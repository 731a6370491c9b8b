"""Times a model whose batches take as long as their inputs need, as a cascade's do.

The runs of such a model differ on the quietest machine, so none is discarded for being longer than others, which would
leave out the very inputs that take long: of each only the time is taken off for which it had no core. What counts is
the mean, over enough rows for the share of those that take long to be about that of all.
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
    """Time cases, by the rows in a batch of each, with so many rows that their mean says something.

    None takes longer than its budget. Called with 0, 1 and so on, a case computes other rows each time.
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
    """The timing of runs that all count, less what they lost."""
    seconds = [without_loss(run).wall_s for run in runs]
    p50_s, p99_s = np.quantile(seconds, (0.5, 0.99), method="higher")
    lost = sum(run.lost_s for run in runs) / sum(run.wall_s for run in runs)
    cpu_s = median(run.cpu_s for run in runs)
    return Timing(float(p50_s), float(p99_s), cpu_s, len(runs), 0, lost, fmean(seconds))
