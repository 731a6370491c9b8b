"""Times a model so that what else the machine does is seen, and kept out where it can be.

Rules:
* What else runs makes a run longer, never shorter. A run during which a thread was ready and did not run, for more than
  a twentieth of the time, says how busy the machine was and not how fast the model is: it is discarded.
* Others also take caches, memory bandwidth and clock speed, of which a process is told nothing. So all cases are timed
  in rounds, one case after the other, and rounds of one case lie apart in time. A case is settled once three rounds
  agree; the lowest three that do are kept, the others are discarded.
* Where none agree, more rounds are timed, on cores that are quieter now, until the budget is spent. What is noisy then
  is kept, and says so.

A quiet machine takes as long as three short rounds a case. The p99 of few runs is their maximum. That of many is the
model's own: as the median does, it leaves out what others on the machine would add.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, NamedTuple

import msgspec
import numpy as np

_WARM_UP_RUNS: Final = 2
_WARM_UP_S: Final = 0.2
_STABLE: Final = 0.1
"""Share by which two runs in a row may differ once a model is warm."""
_ROUND_S: Final = 0.05
_ROUND_RUNS: Final = 700
_FEW_ROUNDS: Final = 3
"""Rounds that have to agree."""
_MOST_ROUNDS: Final = 12
_AGREES: Final = 0.05
"""Share by which the medians of rounds that agree may differ."""
_BUDGET_S: Final = 1.0
_BUDGET_RUNS: Final = 6
"""Runs of a case that are always within the budget, however long they take."""
_LOST_SHARE: Final = 0.05
_LOST_S: Final = 20e-6
"""Seconds that every run may lose: to be woken takes some microseconds on an idle machine, too."""


class Run(NamedTuple):
    """What was seen of one batch."""

    wall_s: float
    cpu_s: float
    """CPU seconds of all threads."""
    lost_s: float
    """Seconds for which it could have run on and had no core."""

    @property
    def is_quiet(self) -> bool:
        """Whether it had its cores nearly all the time."""
        return self.lost_s <= _LOST_S + _LOST_SHARE * self.wall_s


Case = Callable[[int], Run]
"""Computes one batch; called with 0, 1 and so on, so that it may take other inputs each time."""


class Timing(msgspec.Struct, frozen=True):
    """Latency of one case, and how sure it is."""

    p50_s: float
    p99_s: float
    cpu_s: float
    """Median of the CPU seconds of all threads."""
    runs: int
    """Runs that these are from."""
    discarded: int
    """Runs that met a busy machine."""
    noise: float
    """Share by which rounds apart in time differ, or that was lost to others."""
    mean_s: float | None = None
    """Mean, where runs differ by what they compute, see `uneven_timing`."""


def time_cases(cases: Sequence[Case], find_quiet: Callable[[], None] = lambda: None) -> list[Timing]:
    """Time all cases, each until it is settled or its budget is spent.

    Args:
        cases: what is timed.
        find_quiet: called before each further round, once the first ones did not agree.
    """
    series = [_Series(case) for case in cases]
    for one in series:
        one.warm_up()
    rounds = 0
    while unsettled := [one for one in series if not one.is_done]:
        if rounds >= _FEW_ROUNDS:
            find_quiet()
        for one in unsettled:
            one.add_round()
        rounds += 1
    return [summarise(one.rounds) for one in series]


class _Series:
    """The rounds of one case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._runs = 0
        self._spent_s = 0.0
        self._shortest_s = float("inf")
        self.rounds: list[list[Run]] = []

    def warm_up(self) -> None:
        """Run until two runs in a row take about the same."""
        began_s, before, now = self._spent_s, self._run(), self._run()
        while abs(now.wall_s - before.wall_s) > _STABLE * before.wall_s and self._spent_s - began_s < _WARM_UP_S:
            before, now = now, self._run()
        self._spent_s = 0.0

    def add_round(self) -> None:
        """Time one more round."""
        began_s, runs = self._spent_s, [self._run()]
        while len(runs) < _ROUND_RUNS and self._spent_s - began_s < _ROUND_S:
            runs.append(self._run())
        self.rounds.append(runs)

    @property
    def is_done(self) -> bool:
        """Whether enough rounds agree, or no more can be afforded."""
        budget_s = max(_BUDGET_S, _BUDGET_RUNS * self._shortest_s)
        return agreeing(self.rounds) is not None or len(self.rounds) >= _MOST_ROUNDS or self._spent_s >= budget_s

    def _run(self) -> Run:
        run = self._case(self._runs)
        self._runs += 1
        self._spent_s += run.wall_s
        self._shortest_s = min(self._shortest_s, run.wall_s)
        return run


def agreeing(rounds: Sequence[Sequence[Run]]) -> list[list[Run]] | None:
    """The quiet runs of the lowest rounds that agree, if there are enough."""
    quiet = [kept for runs in rounds if (kept := [run for run in runs if run.is_quiet])]
    ordered = sorted(quiet, key=_median_s)
    for first in range(len(ordered) - _FEW_ROUNDS + 1):
        window = ordered[first : first + _FEW_ROUNDS]
        if _spread(window) <= _AGREES:
            limit_s = _median_s(window[0]) * (1 + _AGREES)
            return [runs for runs in ordered[first:] if _median_s(runs) <= limit_s]
    return None


def summarise(rounds: Sequence[Sequence[Run]]) -> Timing:
    """The timing of all rounds of a case: of those that agree, else of the lowest, less what they lost."""
    total = sum(map(len, rounds))
    chosen = agreeing(rounds)
    if chosen is not None:
        return _timing(chosen, total, _spread(chosen))
    lowest = sorted(([without_loss(run) for run in runs] for runs in rounds), key=_median_s)[:_FEW_ROUNDS]
    lost = sum(run.lost_s for runs in rounds for run in runs) / sum(run.wall_s for runs in rounds for run in runs)
    return _timing(lowest, total, max(_spread(lowest), lost, _AGREES))


def _timing(rounds: Sequence[Sequence[Run]], total: int, noise: float) -> Timing:
    runs = [run for round_ in rounds for run in round_]
    p50_s, p99_s = np.quantile([run.wall_s for run in runs], (0.5, 0.99), method="higher")
    cpu_s = median(run.cpu_s for run in runs)
    return Timing(float(p50_s), float(p99_s), cpu_s, len(runs), total - len(runs), noise)


def _median_s(runs: Sequence[Run]) -> float:
    return median(run.wall_s for run in runs)


def _spread(rounds: Sequence[Sequence[Run]]) -> float:
    medians = [_median_s(runs) for runs in rounds]
    return max(medians) / max(min(medians), 1e-9) - 1


def without_loss(run: Run) -> Run:
    """A run as it would have been with a core of its own: no less than what it computed, whatever it waited for."""
    return Run(max(run.wall_s - run.lost_s, min(run.cpu_s, run.wall_s)), run.cpu_s, 0.0)
