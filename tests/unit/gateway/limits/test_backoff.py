"""Tests of `RefusalBackoff`: only refusals of clients that retry too early are held back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.backoff import HOLD_S, DelayedRefusal, RefusalBackoff

NOW = 1000.0
RETRY_S = 0.1
LONGEST_S = 0.5
"""Maximum retry time after doubling."""


def refusals(shares: list[float], retry_after_s: float = RETRY_S) -> list[DelayedRefusal]:
    """Return the refusals of a client that retries after these shares of each retry time."""
    pacing, now, found = RefusalBackoff(), NOW, [DelayedRefusal(0.0, 0.0)]
    for share in shares:
        now += share * found[-1].retry_after_s
        found.append(pacing.refuse("a", now, retry_after_s, now))
        now += found[-1].held_s
    return found[1:]


def held_s(pacing: RefusalBackoff, client: str, asked_s: float, now: float) -> float:
    return pacing.refuse(client, asked_s, RETRY_S, now).held_s


def test_refusal_backoff_holds_early_retry_and_doubles_wait() -> None:
    assert refusals([0.0] * 5) == [
        pytest.approx((held, told))
        for held, told in ((0.0, 0.1), (HOLD_S, 0.2), (HOLD_S, 0.4), (HOLD_S, 0.5), (HOLD_S, 0.5))
    ]


def test_refusal_backoff_resets_wait_after_a_pause() -> None:
    assert [told for _held, told in refusals([1.0, 1.5, 1.5, 3.0])] == pytest.approx([0.1, 0.2, 0.4, 0.1])


@given(st.lists(st.floats(1.0 + 1e-6, 3.0), min_size=1, max_size=10))
def test_refusal_backoff_never_holds_patient_client(shares: list[float]) -> None:
    assert not any(held for held, _told in refusals(shares))


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=20), st.floats(0.0, 60.0))
def test_refusal_backoff_bounds_held_time_and_wait(shares: list[float], retry_after_s: float) -> None:
    for held, told in refusals(shares, retry_after_s):
        assert 0.0 <= held <= HOLD_S
        assert retry_after_s <= told <= max(retry_after_s, LONGEST_S)


def test_refusal_backoff_does_not_hold_other_clients() -> None:
    pacing = RefusalBackoff()
    held_s(pacing, "a", NOW, NOW)
    assert held_s(pacing, "b", NOW, NOW) == 0.0


def test_refusal_backoff_does_not_hold_calls_in_progress() -> None:
    """Many calls share one gRPC connection."""
    pacing = RefusalBackoff()
    assert held_s(pacing, "a", NOW, NOW + 0.01) == 0.0
    assert held_s(pacing, "a", NOW, NOW + 0.02) == 0.0
    assert held_s(pacing, "a", NOW + 0.03, NOW + 0.03) > 0.0


def test_refusal_backoff_holds_each_early_call_of_connection() -> None:
    pacing = RefusalBackoff()
    held_s(pacing, "a", NOW, NOW)
    asked_s = [NOW + 0.001 * each for each in range(1, 64)]
    assert all(held_s(pacing, "a", each, each) > 0.0 for each in asked_s)


def test_refusal_backoff_forgets_client_refused_longest_ago() -> None:
    pacing = RefusalBackoff(most=2)
    for client in ("a", "b", "a", "c"):
        held_s(pacing, client, NOW, NOW)
    assert held_s(pacing, "a", NOW + 0.01, NOW + 0.01) > 0.0
    assert held_s(pacing, "b", NOW + 0.01, NOW + 0.01) == 0.0
