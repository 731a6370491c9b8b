"""Times a model, and detects and excludes the influence of other load on the machine.

Rules:
* Other load makes a run longer, never shorter. A run is discarded if a thread was ready and had no core for more than a
  twentieth of the time: it measures the machine's load, not the model.
* Other processes also use caches, memory bandwidth and clock speed, which a process cannot observe. Hence all cases are
  timed in rounds, one case after the other, so that the rounds of a case lie apart in time. A case is settled once
  three rounds agree. The lowest rounds that agree are kept, the others discarded.
* If no rounds agree, more rounds are timed on cores that are quieter at that time, until the budget is spent. The noisy
  result is kept and marked as noisy.
* Batches of a cascade take different time for different inputs, on a quiet machine as well. None of its runs is
  discarded for being long, which would exclude the inputs that take long; only the time without a core is subtracted.
  The result is the mean, over enough rows for the share of slow inputs to be representative.

On a quiet machine a case takes three short rounds. The p99 of few runs is their maximum. The p99 of many runs belongs
to the model: like the median, it excludes additions by other load.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import fmean, median
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np
import psutil

from process.collection import no_collection
from process.cpus import usable_cpus

_WARM_UP_RUNS: Final = 2
_WARM_UP_S: Final = 0.2
_STABLE: Final = 0.1
"""Relative difference allowed between two runs in a row of a warm model."""
_ROUND_S: Final = 0.05
_ROUND_RUNS: Final = 700
_FEW_ROUNDS: Final = 3
"""Rounds that must agree."""
_MOST_ROUNDS: Final = 12
_AGREES: Final = 0.05
"""Relative difference allowed between the medians of rounds that agree."""
_BUDGET_S: Final = 1.0
_BUDGET_RUNS: Final = 6
"""Runs of a case that are always within the budget."""
_LOST_SHARE: Final = 0.05
_LOST_S: Final = 20e-6
"""Seconds that every run may lose: waking a thread takes some microseconds on an idle machine as well."""
_UNEVEN_ROWS: Final = 400
_FEW_RUNS: Final = 30
_FEWEST_RUNS: Final = 6
_UNEVEN_BUDGET_S: Final = 2.0
_THREADS: Final = Path("/proc/self/task")
_WATCH_S: Final = 0.1
"""Seconds for which the load of the cores is observed."""


class Run(NamedTuple):
    """Observation of one batch."""

    wall_s: float
    cpu_s: float
    """CPU seconds of all threads."""
    lost_s: float
    """Seconds for which it was ready and had no core."""

    @property
    def is_quiet(self) -> bool:
        """True if it had its cores nearly all the time."""
        return self.lost_s <= _LOST_S + _LOST_SHARE * self.wall_s


Case = Callable[[int], Run]
"""Computes one batch. The argument counts from 0, so that each call may use other inputs."""


class Timing(msgspec.Struct, frozen=True):
    """Latency of one case, with its uncertainty."""

    p50_s: float
    p99_s: float
    cpu_s: float
    """Median of the CPU seconds of all threads."""
    runs: int
    """Number of runs in these statistics."""
    discarded: int
    """Number of discarded runs."""
    noise: float
    """Relative difference between rounds, or the share of time lost to other load."""
    mean_s: float | None = None
    """Mean, if runs differ in their work, see `uneven_timing`."""


def batch_sizes(max_batch: int) -> list[int]:
    """Return the sizes to measure: 1, 2, 4 and so on, and `max_batch`."""
    powers = [1 << power for power in range(max_batch.bit_length())]
    return sorted({*powers, max_batch})


def time_cases(cases: Sequence[Case], find_quiet: Callable[[], None] = lambda: None) -> list[Timing]:
    """Time all cases, each until it is settled or its budget is spent.

    Args:
        cases: cases to time.
        find_quiet: called before each further round after the first rounds, if they did not agree.
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
    """Rounds of one case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._runs = 0
        self._spent_s = 0.0
        self._shortest_s = float("inf")
        self.rounds: list[list[Run]] = []

    def warm_up(self) -> None:
        """Run until two runs in a row take about the same time."""
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
        """True if enough rounds agree, or the budget is spent."""
        budget_s = max(_BUDGET_S, _BUDGET_RUNS * self._shortest_s)
        return agreeing(self.rounds) is not None or len(self.rounds) >= _MOST_ROUNDS or self._spent_s >= budget_s

    def _run(self) -> Run:
        run = self._case(self._runs)
        self._runs += 1
        self._spent_s += run.wall_s
        self._shortest_s = min(self._shortest_s, run.wall_s)
        return run


def agreeing(rounds: Sequence[Sequence[Run]]) -> list[list[Run]] | None:
    """Return the quiet runs of the lowest rounds that agree; None if there are too few."""
    quiet = [kept for runs in rounds if (kept := [run for run in runs if run.is_quiet])]
    ordered = sorted(quiet, key=_median_s)
    for first in range(len(ordered) - _FEW_ROUNDS + 1):
        window = ordered[first : first + _FEW_ROUNDS]
        if _spread(window) <= _AGREES:
            limit_s = _median_s(window[0]) * (1 + _AGREES)
            return [runs for runs in ordered[first:] if _median_s(runs) <= limit_s]
    return None


def summarise(rounds: Sequence[Sequence[Run]]) -> Timing:
    """Return the timing of a case: of the rounds that agree, else of the lowest rounds without their lost time."""
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
    """Return a run without its lost time; it is never shorter than its CPU time."""
    return Run(max(run.wall_s - run.lost_s, min(run.cpu_s, run.wall_s)), run.cpu_s, 0.0)


def time_uneven(cases: Mapping[int, Case]) -> list[Timing]:
    """Time cases, by the rows in a batch of each, over enough rows for a meaningful mean.

    Each case stops at its budget. A case is called with 0, 1 and so on, and computes other rows each time.
    """
    return [_time_uneven(case, size) for size, case in cases.items()]


def _time_uneven(case: Case, size: int) -> Timing:
    for turn in range(_WARM_UP_RUNS):
        case(turn)
    runs, wanted = list[Run](), max(_FEW_RUNS, -(-_UNEVEN_ROWS // size))
    spent_s = 0.0
    while len(runs) < wanted and (len(runs) < _FEWEST_RUNS or spent_s < _UNEVEN_BUDGET_S):
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


@contextmanager
def pinned_to_quiet_cores(count: int) -> Generator[Callable[[], None]]:
    """Pin all threads of this process to the `count` least busy cores; yield a function that chooses the cores again.

    There are as many cores as the model has threads, so no thread moves or gets more than it will have in service. If
    the kernel cannot pin threads, nothing happens.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield lambda: None
        return
    allowed = usable_cpus()

    def choose() -> None:
        if count < len(allowed):
            _pin(quietest(allowed)[:count])

    choose()
    try:
        yield choose
    finally:
        _pin(allowed)


@contextmanager
def observed_quietly(cores: int | None) -> Generator[tuple["RunObserver", Callable[[], None]]]:
    """Yield an observer of runs on as many cores as they have threads, and a function that chooses the cores again.

    Without `cores`, another device computes, and threads are not pinned. Meanwhile no garbage is collected.
    """
    quiet = pinned_to_quiet_cores(cores) if cores else nullcontext(lambda: None)
    with quiet as find_quiet, RunObserver(cores or 1) as observer, no_collection():
        yield observer, find_quiet


def quietest(cores: list[int]) -> list[int]:
    """Return the cores in the order of their load.

    Work of lower priority is no load, because it yields, and neither is the wait for a disk.
    """
    times = psutil.cpu_times_percent(_WATCH_S, percpu=True)
    busy = [100.0 - core.idle - core.nice - getattr(core, "iowait", 0.0) for core in times]  # of Linux only
    return sorted(cores, key=lambda core: busy[core] if core < len(busy) else 0.0)


def _pin(cores: list[int]) -> None:
    """Pin the present threads; threads that they start inherit it."""
    for thread in _threads():
        with suppress(OSError):  # the thread has just ended
            os.sched_setaffinity(thread, cores)


def _threads() -> list[int]:
    return [int(path.name) for path in _THREADS.iterdir()]


class RunObserver:
    """Observes runs of this process: wall time, CPU time, and the time that its threads waited for a core.

    A context manager. Create it after the threads that compute exist.
    """

    def __init__(self, threads: int) -> None:
        self._share = threads
        self._files: list[int] = []
        for thread in _threads() if _THREADS.exists() else ():
            with suppress(OSError):  # the thread has just ended, or the kernel lacks this file
                self._files.append(os.open(_THREADS / str(thread) / "schedstat", os.O_RDONLY))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            os.close(file)

    def observe(self, compute: Callable[[], object]) -> Run:
        """Call `compute` and return its times."""
        waited, cpu_s, began = self._waited_s(), time.process_time(), time.perf_counter()
        compute()
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        # Threads that compute nothing may have waited, too: that is no loss.
        lost_s = min(self._waited_s() - waited, wall_s - cpu_s / self._share)
        return Run(wall_s, cpu_s, max(lost_s, 0.0))

    def _waited_s(self) -> float:
        """Return the seconds for which threads were ready and had no core, divided by the number of threads."""
        return sum(_waited_ns(file) for file in self._files) / 1e9 / self._share


def _waited_ns(file: int) -> int:
    try:
        return int(os.pread(file, 64, 0).split()[1])
    except (OSError, IndexError):  # the thread has ended
        return 0
