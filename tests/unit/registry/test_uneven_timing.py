"""Tests of timing models whose duration depends on their inputs; every run counts."""

import pytest

from registry.pipeline.timing import Run, summarise
from registry.pipeline.uneven_timing import time_uneven, uneven_timing


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
