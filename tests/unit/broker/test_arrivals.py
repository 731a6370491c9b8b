"""Tests of `Linger`, which is bounded and zero while batching gains nothing, and of `OnlineArrivals`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.arrivals import FULL, MOST, SCARCE, SHARE, SPARE, UNHURRIED_S, Linger, OnlineArrivals

LONGEST_S = 0.02
BUSY = 1.0


def steady(linger: Linger, per_s: float, left_s: float | None, cpu_busy: float, seconds: float = 3.0) -> float:
    """Return the delay of the last query of a steady flow, in seconds."""
    lingers = 0.0
    for number in range(round(per_s * seconds)):
        lingers = linger.linger_s(100 + number / per_s, left_s, cpu_busy)
    return lingers


@given(
    gaps=st.lists(st.one_of(st.just(0.0), st.floats(0, 0.02), st.floats(0, 1e4)), min_size=1, max_size=60),
    left_s=st.one_of(st.none(), st.floats(0, 100)),
    cpu_busy=st.floats(0, 1),
    longest_s=st.floats(0, LONGEST_S),
)
def test_linger_is_bounded_by_share_of_time_left(
    gaps: list[float], left_s: float | None, cpu_busy: float, longest_s: float
) -> None:
    linger, now = Linger(longest_s), 5.0
    for gap in gaps:
        now += gap
        lingers = linger.linger_s(now, left_s, cpu_busy)
        assert 0 <= lingers <= longest_s
        assert lingers <= (UNHURRIED_S if left_s is None else SHARE * left_s) * (MOST if cpu_busy > SCARCE else 1)


@given(per_s=st.floats(1, 5000), left_s=st.one_of(st.none(), st.floats(0, 100)), cpu_busy=st.floats(0, SPARE))
def test_linger_is_zero_with_spare_cpu_time(per_s: float, left_s: float | None, cpu_busy: float) -> None:
    assert steady(Linger(LONGEST_S), per_s, left_s, cpu_busy, 0.2) == 0


@given(gaps=st.lists(st.floats(LONGEST_S * 2, 1e4), min_size=1, max_size=200), left_s=st.floats(0, 1e4))
def test_linger_is_zero_if_no_other_query_is_expected(gaps: list[float], left_s: float) -> None:
    linger, now = Linger(LONGEST_S), 0.0
    for gap in gaps:
        now += gap
        assert linger.linger_s(now, left_s, BUSY) == 0


def test_linger_is_zero_after_a_pause() -> None:
    linger = Linger(LONGEST_S)
    assert steady(linger, 1000, None, BUSY) == MOST * UNHURRIED_S
    assert linger.linger_s(200.0, None, BUSY) == 0


def test_linger_uses_whole_bound_at_high_rates() -> None:
    assert steady(Linger(LONGEST_S), 1000, 0.05, SCARCE) == SHARE * 0.05
    assert steady(Linger(LONGEST_S), 250, 0.15, SCARCE) == SHARE * 0.15
    assert steady(Linger(LONGEST_S), 250, 60.0, BUSY) == LONGEST_S
    assert steady(Linger(LONGEST_S), 1000, None, SCARCE) == UNHURRIED_S


def test_linger_grows_up_to_threefold_on_full_machine() -> None:
    at = [steady(Linger(LONGEST_S), 1000, 0.05, busy) for busy in (SCARCE, (SCARCE + FULL) / 2, FULL, BUSY)]
    assert at == pytest.approx([SHARE * 0.05 * times for times in (1, (1 + MOST) / 2, MOST, MOST)])
    assert steady(Linger(LONGEST_S, most=1.0), 1000, 0.05, BUSY) == SHARE * 0.05


def test_linger_is_zero_near_the_deadline() -> None:
    linger = Linger(LONGEST_S)
    assert steady(linger, 1000, 1.0, BUSY) == LONGEST_S
    assert linger.linger_s(103.0, 0.001, BUSY) == 0
    assert linger.linger_s(103.0, 0.0, BUSY) == 0


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_linger_never_decreases_with_cpu_load(low: float, high: float) -> None:
    low, high = sorted((low, high))
    assert steady(Linger(LONGEST_S), 2000, None, low, 1.0) <= steady(Linger(LONGEST_S), 2000, None, high, 1.0)


@given(cost=st.floats(0.2, 3.0), floor=st.floats(0.0, 0.5))
def test_linger_converges_though_it_lowers_cpu_load(cost: float, floor: float) -> None:
    """Batching lowers the machine's load, and the measured load follows within half a second."""
    linger, busy, now, waits = Linger(LONGEST_S), min(cost, 1.0), 100.0, list[float]()
    for _ in range(4000):
        now += 0.001
        lingers = linger.linger_s(now, None, busy)
        busy += 0.002 * (min(floor + cost / (1 + 1000 * lingers), 1.0) - busy)
        waits.append(lingers)
    settled = waits[-300:]
    assert max(settled) - min(settled) <= UNHURRIED_S / 2


BEGAN = 1000.0


def after(gaps_s: list[float]) -> tuple[OnlineArrivals, float]:
    """Return the rhythm after queries with these gaps, and the time of the last one."""
    found, now = OnlineArrivals(), BEGAN
    for gap_s in gaps_s:
        now += gap_s
        found.came(now)
    return found, now


def test_online_rhythm_expects_none_without_arrivals() -> None:
    assert not OnlineArrivals().expects_more(BEGAN)


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=200))
def test_online_rhythm_expects_none_after_idle_second(gaps_s: list[float]) -> None:
    found, last = after(gaps_s)
    assert found.expects_more(last)
    assert found.expects_more(last + 0.09)
    assert not found.expects_more(last + 1.001)


def test_online_rhythm_of_dense_stream_ends_sooner() -> None:
    dense, last = after([0.005] * 200)
    assert dense.expects_more(last + 0.05)
    assert not dense.expects_more(last + 0.2)
    sparse, last = after([0.5] * 200)
    assert sparse.expects_more(last + 0.9)


def test_online_rhythm_ignores_single_pause() -> None:
    found, last = after([0.005] * 200 + [600.0] + [0.005] * 100)
    assert not found.expects_more(last + 0.2)
