"""Tests of `UseRates`: steady uses converge to their rate, old ones decay, and removed names are forgotten."""

import pytest

from autoscaler.observe.use_rates import UseRates


def test_use_rates_converge_to_steady_rate() -> None:
    rates = UseRates(half_life_s=60.0)
    for second in range(0, 1200, 2):
        rates.add("often", 1, float(second))
        if second % 50 == 0:
            rates.add("seldom", 1, float(second))
    assert rates.per_s(1200.0) == pytest.approx({"often": 0.5, "seldom": 0.02}, rel=0.4)


def test_use_rates_halve_after_half_life() -> None:
    rates = UseRates(half_life_s=60.0)
    rates.add("a", 8, 0.0)
    assert rates.per_s(60.0)["a"] == rates.per_s(0.0)["a"] / 2 == rates.per_s(120.0)["a"] * 2


def test_use_rates_forget_removed_names() -> None:
    rates = UseRates()
    rates.add("a", 1, 0.0)
    rates.add("b", 1, 0.0)
    rates.forget({"b"})
    assert list(rates.per_s(0.0)) == ["b"]
