"""Tests of the measurement of interference between slots."""

import threading
from itertools import groupby

import pytest

from bench.profiles import interfering
from bench.profiles.interfering import time_beside


def is_other_running() -> bool:
    return "other slot" in {thread.name for thread in threading.enumerate()}


def test_batch_is_timed_alone_and_beside_the_other_slot_in_turns() -> None:
    beside: list[bool] = []
    time_beside(lambda: beside.append(is_other_running()), lambda: None, turns=3, turn_s=0.001)
    assert [running for running, _ in groupby(beside)] == [False, True] * 3
    assert not is_other_running()


def test_percentage_is_of_the_median_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0

    def one() -> None:
        nonlocal now_s
        now_s += 0.003 if is_other_running() else 0.002

    monkeypatch.setattr(interfering.time, "perf_counter", lambda: now_s)
    assert time_beside(one, lambda: None).longer_percent == pytest.approx(50.0)
