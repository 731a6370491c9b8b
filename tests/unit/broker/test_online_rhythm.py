"""When online queries are expected: while they come as they did, and no longer than a second after the last."""

from hypothesis import given
from hypothesis import strategies as st

from broker.online_rhythm import OnlineRhythm

BEGAN = 1000.0


def after(gaps_s: list[float]) -> tuple[OnlineRhythm, float]:
    """What is known after queries that came so far apart, and when the last one did."""
    found, now = OnlineRhythm(), BEGAN
    for gap_s in gaps_s:
        now += gap_s
        found.came(now)
    return found, now


def test_none_is_expected_where_none_ever_came() -> None:
    assert not OnlineRhythm().expects_more(BEGAN)


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=200))
def test_more_are_expected_right_after_one_and_none_after_an_idle_second(gaps_s: list[float]) -> None:
    found, last = after(gaps_s)
    assert found.expects_more(last)
    assert found.expects_more(last + 0.09)
    assert not found.expects_more(last + 1.001)


def test_a_dense_stream_is_over_sooner_than_a_sparse_one() -> None:
    dense, last = after([0.005] * 200)
    assert dense.expects_more(last + 0.05)
    assert not dense.expects_more(last + 0.2)
    sparse, last = after([0.5] * 200)
    assert sparse.expects_more(last + 0.9)


def test_a_pause_makes_no_stream_sparse() -> None:
    found, last = after([0.005] * 200 + [600.0] + [0.005] * 100)
    assert not found.expects_more(last + 0.2)
