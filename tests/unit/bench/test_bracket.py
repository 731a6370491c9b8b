"""Tests of the search for the goodput: it comes close to the limit from any first rate."""

from hypothesis import given
from hypothesis import strategies as st

from bench.core.bracket import LOWEST, PRECISION, RateBracket, narrowed, next_rate

_RATES = st.floats(2 * LOWEST, 20_000.0)


@given(limit=_RATES, first=_RATES)
def test_rate_bracket_finds_the_limit(limit: float, first: float) -> None:
    bracket, tried = RateBracket(), list[float]()
    while (rate := next_rate(bracket, first)) is not None:
        tried.append(rate)
        bracket = narrowed(bracket, rate, held=rate <= limit)
    assert bracket.held <= limit < bracket.missed <= bracket.held * PRECISION
    assert len(tried) <= 45


@given(limit=_RATES, change=st.floats(0.8, 1.25))
def test_rate_bracket_near_the_limit_needs_few_rates(limit: float, change: float) -> None:
    bracket, tried = RateBracket(), list[float]()
    while (rate := next_rate(bracket, limit * change, near=True)) is not None:
        tried.append(rate)
        bracket = narrowed(bracket, rate, held=rate <= limit)
    assert bracket.held <= limit < bracket.missed <= bracket.held * (PRECISION + 1e-6)
    assert len(tried) <= 6


@given(first=_RATES)
def test_rate_bracket_ends_if_no_rate_holds(first: float) -> None:
    bracket = RateBracket()
    while (rate := next_rate(bracket, first)) is not None:
        assert rate >= min(first, LOWEST)
        bracket = narrowed(bracket, rate, held=False)
    assert bracket.held == 0.0


def test_next_rate_lies_within_the_bracket() -> None:
    bracket = RateBracket(held=100.0, missed=400.0)
    assert next_rate(bracket, first=1.0) == 200.0
    assert narrowed(bracket, 200.0, held=True) == RateBracket(200.0, 400.0)
    assert narrowed(bracket, 200.0, held=False) == RateBracket(100.0, 200.0)


def test_rate_bracket_retries_a_missed_rate() -> None:
    bracket, tried = RateBracket(), list[float]()
    while (rate := next_rate(bracket, first=100.0)) is not None:
        unlucky = rate == 135.0 and rate not in tried
        tried.append(rate)
        bracket = narrowed(bracket, rate, held=rate <= 500.0 and not unlucky)
    assert tried.count(135.0) == 2
    assert bracket.held <= 500.0 < bracket.missed <= bracket.held * PRECISION
