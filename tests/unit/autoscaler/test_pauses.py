"""Waiting between tries of a launcher that fails."""

import pytest

from autoscaler.apply.worker_reconciler import RetryBackoff


def test_pauses_double_up_to_a_minute_and_end_when_all_is_well() -> None:
    now_s = 0.0
    pauses = RetryBackoff(lambda: now_s)
    assert pauses.over("cpu-0")
    assert [pauses.tried("cpu-0") for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not pauses.over("cpu-0")
    assert pauses.over("cpu-1")
    now_s = 60.0
    assert pauses.over("cpu-0")
    pauses.settled("cpu-0")
    assert pauses.tried("cpu-0", least_s=5.0) == pytest.approx(5.0)
