"""Whose refusals are held back: of nobody who waits as told, and of those who do not until they were to come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.retry_pacing import PacedRefusal, RetryPacing

NOW = 1000.0
RETRY_S = 0.1
LONGEST_S = 0.5


def refusals(shares: list[float], retry_after_s: float = RETRY_S) -> list[PacedRefusal]:
    """How a client is refused that asks again once such shares of the times that it was told have passed."""
    pacing, now, found = RetryPacing(), NOW, [PacedRefusal(0.0, 0.0)]
    for share in shares:
        now += share * found[-1].retry_after_s
        found.append(pacing.refuse("a", now, retry_after_s, now))
        now += found[-1].held_s
    return found[1:]


def held_s(pacing: RetryPacing, client: str, asked_s: float, now: float) -> float:
    return pacing.refuse(client, asked_s, RETRY_S, now).held_s


def test_who_asks_again_at_once_is_told_when_it_was_to_come_back_and_each_time_to_wait_twice_as_long() -> None:
    assert refusals([0.0] * 5) == [
        pytest.approx((held, told)) for held, told in ((0.0, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 0.5), (0.5, 0.5))
    ]


def test_who_comes_back_soon_and_is_refused_again_is_told_to_wait_twice_as_long_and_later_as_at_first() -> None:
    assert [told for _held, told in refusals([1.0, 1.5, 1.5, 3.0])] == pytest.approx([0.1, 0.2, 0.4, 0.1])


@given(st.lists(st.floats(1.0 + 1e-6, 3.0), min_size=1, max_size=10))
def test_who_waits_as_told_is_never_held(shares: list[float]) -> None:
    assert not any(held for held, _told in refusals(shares))


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=20), st.floats(0.0, 60.0))
def test_nobody_is_held_for_longer_than_the_bound_or_told_to_come_back_sooner(
    shares: list[float], retry_after_s: float
) -> None:
    for held, told in refusals(shares, retry_after_s):
        assert 0.0 <= held <= LONGEST_S
        assert retry_after_s <= told <= max(retry_after_s, LONGEST_S)


def test_another_client_is_not_held_for_it() -> None:
    pacing = RetryPacing()
    held_s(pacing, "a", NOW, NOW)
    assert held_s(pacing, "b", NOW, NOW) == 0.0


def test_what_was_on_its_way_when_the_client_was_told_is_not_held() -> None:
    """Many calls share a connection of gRPC."""
    pacing = RetryPacing()
    assert held_s(pacing, "a", NOW, NOW + 0.01) == 0.0
    assert held_s(pacing, "a", NOW, NOW + 0.02) == 0.0
    assert held_s(pacing, "a", NOW + 0.03, NOW + 0.03) > 0.0


def test_of_many_that_share_a_connection_and_retry_at_once_each_is_held() -> None:
    pacing = RetryPacing()
    held_s(pacing, "a", NOW, NOW)
    asked_s = [NOW + 0.001 * each for each in range(1, 64)]
    assert all(held_s(pacing, "a", each, each) > 0.0 for each in asked_s)


def test_the_client_that_was_refused_longest_ago_is_forgotten_for_another() -> None:
    pacing = RetryPacing(most=2)
    for client in ("a", "b", "a", "c"):
        held_s(pacing, client, NOW, NOW)
    assert held_s(pacing, "a", NOW + 0.01, NOW + 0.01) > 0.0
    assert held_s(pacing, "b", NOW + 0.01, NOW + 0.01) == 0.0
