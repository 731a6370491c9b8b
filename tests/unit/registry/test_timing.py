"""Tests of timing: rounds that agree, runs that count, and batches of unequal work."""

import os
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.pipeline.timing import (
    Case,
    Run,
    RunObserver,
    agreeing,
    pinned_to_quiet_cores,
    quietest,
    summarise,
    time_cases,
    time_uneven,
    uneven_timing,
)

LONG_S = 0.03
"""Duration of a run, in seconds; two such runs fill a round."""


def quiet(wall_s: float = LONG_S) -> Run:
    return Run(wall_s, wall_s, 0.0)


def disturbed(lost_s: float) -> Run:
    return Run(LONG_S + lost_s, LONG_S, lost_s)


def case(*runs: Run, then: Run) -> Case:
    """Return a case that yields these runs in order, then `then` forever."""
    following: Iterator[Run] = chain(runs, repeat(then))
    return lambda turn: next(following)


def test_time_cases_takes_three_rounds_on_quiet_machine() -> None:
    timing = time_cases([case(then=quiet())])[0]
    assert (timing.p50_s, timing.p99_s, timing.cpu_s) == (LONG_S, LONG_S, LONG_S)
    assert (timing.runs, timing.discarded, timing.noise) == (6, 0, 0.0)


def test_time_cases_discards_runs_that_lost_core() -> None:
    warm_up = [quiet(), quiet()]
    mixed = [quiet(), disturbed(0.05), quiet(), disturbed(0.05), quiet(), quiet()]
    timing = time_cases([case(*warm_up, *mixed, then=quiet())])[0]
    assert (timing.p50_s, timing.p99_s, timing.discarded) == (LONG_S, LONG_S, 2)


def test_time_cases_warms_up_until_stable() -> None:
    timing = time_cases([case(quiet(0.09), quiet(0.06), quiet(0.04), quiet(), then=quiet())])[0]
    assert (timing.p99_s, timing.discarded) == (LONG_S, 0)


def test_time_cases_continues_after_slow_phase() -> None:
    """Contention that the process cannot observe: no run loses its core, but each takes 1.5 times as long."""
    slow = [quiet(1.5 * LONG_S)] * 5
    looked: list[bool] = []
    timing = time_cases([case(*slow, then=quiet())], lambda: looked.append(True))[0]
    assert (timing.p50_s, timing.noise) == (LONG_S, 0.0)
    assert timing.discarded > 0
    assert looked


def test_time_cases_alternates_cases() -> None:
    turns: list[str] = []

    def named(name: str) -> Case:
        def run(_turn: int) -> Run:
            turns.append(name)
            return quiet()

        return run

    time_cases([named("a"), named("b")])
    assert "".join(turns) == "aabb" + "aabb" * 3


@pytest.mark.parametrize("lost_s", [0.03, 0.3])
def test_time_cases_subtracts_loss_if_never_quiet(lost_s: float) -> None:
    timing = time_cases([case(then=disturbed(lost_s))])[0]
    assert timing.p50_s == pytest.approx(LONG_S)
    assert timing.noise == pytest.approx(lost_s / (LONG_S + lost_s))


def test_time_cases_stops_at_budget_without_agreement() -> None:
    lengths = (LONG_S * 1.3**step for step in range(1000))
    timing = time_cases([lambda _turn: quiet(next(lengths))])[0]
    assert timing.noise > 0.1
    assert timing.runs + timing.discarded < 100


@given(st.lists(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=5), min_size=3, max_size=12))
def test_agreeing_rounds_are_close_and_summarised(walls: list[list[float]]) -> None:
    rounds = [[quiet(wall_s) for wall_s in round_] for round_ in walls]
    timing, found = summarise(rounds), agreeing(rounds)
    assert timing.runs + timing.discarded == sum(map(len, rounds))
    assert 0 < timing.p50_s <= timing.p99_s
    if found is None:
        assert timing.noise >= 0.05
    else:
        assert len(found) >= 3
        assert timing.noise <= 0.05 + 1e-9


@pytest.mark.parametrize("other", ["nice", "iowait"])
@pytest.mark.parametrize(("loads", "order"), [([(30.0, 0.0), (5.0, 60.0)], [1, 0]), ([(5.0, 0.0), (9.0, 0.0)], [0, 1])])
def test_quietest_core_may_do_work_of_lower_priority_or_wait_for_disk(
    loads: list[tuple[float, float]], order: list[int], other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = {"nice": 0.0, "iowait": 0.0}
    times = [SimpleNamespace(idle=100.0 - usual - more, **none | {other: more}) for usual, more in loads]
    monkeypatch.setattr("registry.pipeline.timing.psutil.cpu_times_percent", Mock(return_value=times))
    assert quietest([0, 1]) == order


def _busy_loop(turns: int) -> Callable[[], object]:
    return lambda: sum(range(turns))


def test_run_observer_measures_real_run() -> None:
    with pinned_to_quiet_cores(1) as find_quiet, RunObserver(1) as observer:
        find_quiet()
        run = observer.observe(_busy_loop(100_000))
    assert run.wall_s > 0
    assert run.cpu_s > 0
    assert 0 <= run.lost_s <= run.wall_s


def test_pinned_to_quiet_cores_restores_affinity() -> None:
    before = os.sched_getaffinity(0)
    with pinned_to_quiet_cores(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_uneven_timing_keeps_mean_and_longest_run() -> None:
    timing = uneven_timing([Run(0.001, 0.001, 0.0)] * 90 + [Run(0.101, 0.101, 0.0)] * 10)
    assert (timing.p50_s, timing.p99_s, timing.runs, timing.discarded) == (0.001, 0.101, 100, 0)
    assert timing.mean_s == pytest.approx(0.011)


def test_uneven_timing_subtracts_lost_time() -> None:
    timing = uneven_timing([Run(0.002, 0.001, 0.001), Run(0.004, 0.003, 0.001)])
    assert timing.mean_s == pytest.approx(0.002)
    assert timing.noise == pytest.approx(1 / 3)


def test_timing_is_at_least_cpu_time() -> None:
    """The summed waiting time of concurrent threads can exceed the duration of the run."""
    lost = Run(0.002, 0.0015, 0.002)
    assert uneven_timing([lost] * 3).mean_s == pytest.approx(0.0015)
    assert summarise([[lost]] * 3).p50_s == pytest.approx(0.0015)


def test_time_uneven_runs_small_batches_more_often() -> None:
    asked: list[int] = []

    def quick(turn: int) -> Run:
        asked.append(turn)
        return Run(0.001, 0.001, 0.0)

    single, many, slow = time_uneven({1: quick, 32: quick, 64: lambda _turn: Run(1.0, 1.0, 0.0)})
    assert single.runs >= 400
    assert 30 <= many.runs < 100
    assert slow.runs == 6
    assert asked[2 : 2 + single.runs] == list(range(single.runs))
