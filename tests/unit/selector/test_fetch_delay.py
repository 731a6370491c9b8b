"""Tests of `FetchDelay`: the delay between two fetches of the selector on a machine without free CPU time."""

from hypothesis import given
from hypothesis import strategies as st

from broker.arrivals import SHARE, UNHURRIED_S
from selector.dispatch.fetch_delay import LONGEST_S, SCARCE, SPARE, FetchDelay


def rest_after(per_s: float, left_s: float | None, cpu_busy: float, lingered: bool = False) -> float:
    """Return the rest after two seconds of a steady flow in which each query is taken alone."""
    delay, rest_s = FetchDelay(2 * LONGEST_S), 0.0
    for number in range(round(2 * per_s)):
        delay.take(100 + number / per_s, left_s)
        if lingered:
            delay.take_lingered()
        rest_s = delay.rest_s(cpu_busy)
    return rest_s


def test_fetch_delay_rests_for_share_of_deadline() -> None:
    assert rest_after(500, 0.1, 1.0) == SHARE * 0.1
    assert rest_after(500, 60.0, 1.0) == LONGEST_S
    assert rest_after(500, None, SCARCE) == UNHURRIED_S


@given(per_s=st.floats(1, 2000), left_s=st.one_of(st.none(), st.floats(0, 100)), cpu_busy=st.floats(0, SPARE))
def test_fetch_delay_never_rests_with_free_cpu(per_s: float, left_s: float | None, cpu_busy: float) -> None:
    assert rest_after(per_s, left_s, cpu_busy) == 0


def test_fetch_delay_does_not_delay_rare_queries() -> None:
    assert rest_after(20, 1.0, 1.0) == 0


def test_fetch_delay_rests_after_simultaneous_queries() -> None:
    delay = FetchDelay(LONGEST_S)
    for _ in range(100):
        delay.take(100.0, 60.0)
    assert delay.rest_s(1.0) == LONGEST_S


def test_fetch_delay_does_not_delay_lingered_queries() -> None:
    assert rest_after(500, 60.0, 1.0, lingered=True) == 0


def test_fetch_delay_uses_nearest_deadline() -> None:
    delay = FetchDelay(LONGEST_S)
    for number in range(1000):
        delay.take(100 + number / 500, 60.0)
    delay.take(102.0, 0.1)
    delay.take(102.0, 60.0)
    assert delay.rest_s(1.0) == SHARE * 0.1
    assert delay.rest_s(1.0) == 0  # nothing was taken since


@given(
    taken=st.lists(st.tuples(st.floats(0, 0.02), st.one_of(st.none(), st.floats(-1, 100)), st.booleans()), max_size=60),
    longest_s=st.floats(0, LONGEST_S),
)
def test_fetch_delay_rest_is_bounded(taken: list[tuple[float, float | None, bool]], longest_s: float) -> None:
    delay, now = FetchDelay(longest_s), 5.0
    for gap, left_s, lingered in taken:
        now += gap
        delay.take(now, left_s)
        if lingered:
            delay.take_lingered()
    assert 0 <= delay.rest_s(1.0) <= longest_s
