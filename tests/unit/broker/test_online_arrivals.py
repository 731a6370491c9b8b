"""Tests of expecting online queries: by the rhythm of arrivals, for at most a second after the last one."""

from hypothesis import given
from hypothesis import strategies as st

from broker.online_arrivals import OnlineArrivals

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
