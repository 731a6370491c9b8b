"""Tests of delays that are measured on a real system."""

import numpy as np
import pytest

from simulator.calibration.measured_delays import MeasuredTimes, fit_delays
from simulator.scenario import Delays

BASE = Delays(decision_s=0.123)


def times(count: int) -> MeasuredTimes:
    """Return times whose queries found their worker idle, but for every tenth, which waited for 100 ms."""
    random = np.random.default_rng(0)
    to_worker_s = random.uniform(0.002, 0.004, count)
    to_worker_s[::10] += 0.1
    to_selector_s, compute_s = random.uniform(0.001, 0.003, count), np.full(count, 0.02)
    return MeasuredTimes(
        to_selector_s=to_selector_s,
        to_worker_s=to_worker_s,
        compute_s=compute_s,
        total_s=to_selector_s + to_worker_s + compute_s + 0.005,
    )


def test_measured_delays_have_quantiles_of_waits() -> None:
    delays = fit_delays(times(2000), BASE)
    drawn_s = delays.to_selector.draw(np.random.default_rng(1), 10_000)
    assert drawn_s.min() >= 0.001
    assert drawn_s.max() <= 0.003
    assert np.median(drawn_s) == pytest.approx(0.002, rel=0.05)
    assert delays.result.p50_s == pytest.approx(0.005)
    assert delays.decision_s == BASE.decision_s


def test_measured_delay_to_worker_leaves_out_waits_for_others() -> None:
    assert max(fit_delays(times(2000), BASE).to_worker.measured_s) <= 0.004


def test_few_queries_leave_delays_as_they_were() -> None:
    assert fit_delays(times(10), BASE) == BASE
