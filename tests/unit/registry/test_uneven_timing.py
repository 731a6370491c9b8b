"""Timing of what takes as long as its inputs need: every run counts, whatever it took."""

import pytest

from registry.pipeline.timing import Run, summarise
from registry.pipeline.uneven_timing import time_uneven, uneven_timing


def test_the_mean_and_the_longest_are_kept_and_no_run_is_discarded_for_its_length() -> None:
    timing = uneven_timing([Run(0.001, 0.001, 0.0)] * 90 + [Run(0.101, 0.101, 0.0)] * 10)
    assert (timing.p50_s, timing.p99_s, timing.runs, timing.discarded) == (0.001, 0.101, 100, 0)
    assert timing.mean_s == pytest.approx(0.011)


def test_what_a_run_lost_to_others_is_taken_off() -> None:
    timing = uneven_timing([Run(0.002, 0.001, 0.001), Run(0.004, 0.003, 0.001)])
    assert timing.mean_s == pytest.approx(0.002)
    assert timing.noise == pytest.approx(1 / 3)


def test_a_run_takes_no_less_than_it_computed_whatever_it_waited_for() -> None:
    """Threads that wait beside one another may have lost more together than the run took."""
    lost = Run(0.002, 0.0015, 0.002)
    assert uneven_timing([lost] * 3).mean_s == pytest.approx(0.0015)
    assert summarise([[lost]] * 3).p50_s == pytest.approx(0.0015)


def test_small_batches_are_run_more_often_and_long_ones_no_longer_than_the_budget() -> None:
    asked: list[int] = []

    def quick(turn: int) -> Run:
        asked.append(turn)
        return Run(0.001, 0.001, 0.0)

    single, many, slow = time_uneven({1: quick, 32: quick, 64: lambda _turn: Run(1.0, 1.0, 0.0)})
    assert single.runs >= 400
    assert 30 <= many.runs < 100
    assert slow.runs == 6
    assert asked[2 : 2 + single.runs] == list(range(single.runs))
