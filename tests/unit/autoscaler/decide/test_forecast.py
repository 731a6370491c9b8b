"""Tests of the load forecast: it follows trends and seasons, and is never below the present load."""

import math

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decide.forecast import growth

LOADS = st.lists(st.floats(0, 1e6) | st.just(math.nan), max_size=200)


@given(LOADS, st.floats(0, 100), st.floats(0, 1e6))
def test_growth_is_bounded_and_at_least_one(history: list[float], horizon_s: float, present: float) -> None:
    assert 1.0 <= growth(history, horizon_s, present) <= 2.0


def test_growth_follows_damped_trend() -> None:
    rising = [10.0 + 2 * second for second in range(60)]
    assert 1.03 < growth(rising, 5, rising[-1]) < 1.2
    assert growth(rising, 5, rising[-1]) < growth(rising, 10, rising[-1])


def test_growth_ignores_noise() -> None:
    noisy = [100.0 + 10 * math.sin(7.3 * second) for second in range(120)]
    assert growth(noisy, 10, 110.0) < 1.05


def test_growth_expects_seasonal_load() -> None:
    season = [100.0] * 10 + [10.0] * 50
    quiet = (season * 4)[:-3]
    assert growth(quiet, 10, 10.0) == 2.0
    early = (season * 4)[:-30]
    assert growth(early, 10, 10.0) < 1.1
