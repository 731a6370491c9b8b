"""Tests of the back-off between calls of a launcher that fails."""

import pytest

from autoscaler.apply.worker_reconciler import RetryBackoff


def test_retry_backoff_doubles_to_a_minute_and_resets() -> None:
    now_s = 0.0
    backoff = RetryBackoff(lambda: now_s)
    assert backoff.is_due("cpu-0")
    assert [backoff.tried("cpu-0") for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not backoff.is_due("cpu-0")
    assert backoff.is_due("cpu-1")
    now_s = 60.0
    assert backoff.is_due("cpu-0")
    backoff.reset("cpu-0")
    assert backoff.tried("cpu-0", least_s=5.0) == pytest.approx(5.0)
