"""Tests of `QuotaMeters`: the average rate and the concurrent queries stay within the quota."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.quotas import QuotaMeters
from schemas.access import Principal, Quota, Role
from schemas.errors import QuotaExceeded


def someone(quota: Quota | None, name: str = "k") -> Principal:
    return Principal(name, "acme", frozenset({Role.QUERY}), None, quota)


def asked(meters: QuotaMeters, principal: Principal, now: float, inputs: int = 1) -> bool:
    """Return true if a query is admitted; it is answered at once."""
    try:
        meter = meters.enter(principal, now)
    except QuotaExceeded:
        return False
    assert meter is not None
    meter.charge(inputs - 1)
    meter.leave()
    return True


@given(
    st.floats(0.5, 100),
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 50)), min_size=1, max_size=100),
)
def test_rate_quota_bounds_admitted_inputs(per_second: float, queries: list[tuple[float, int]]) -> None:
    meters, now, through, largest = QuotaMeters(), 0.0, 0, 0
    for pause, inputs in queries:
        now += pause
        if asked(meters, someone(Quota(per_second)), now, inputs):
            through += inputs
            largest = max(largest, inputs)
    assert through <= max(per_second, 1) + per_second * now + largest + 1e-6


@given(st.floats(0.5, 100), st.integers(1, 1000))
def test_rate_quota_admits_after_retry_after(per_second: float, inputs: int) -> None:
    meters, principal, now = QuotaMeters(), someone(Quota(per_second)), 100.0
    assert asked(meters, principal, now, inputs)
    while asked(meters, principal, now):
        pass
    with pytest.raises(QuotaExceeded) as refused:
        meters.enter(principal, now)
    wait_s = refused.value.retry_after_s
    assert wait_s is not None
    assert not asked(meters, principal, now + wait_s * 0.9)
    assert asked(meters, principal, now + wait_s + 1e-6)


@given(st.integers(1, 20), st.lists(st.booleans(), max_size=100))
def test_concurrency_quota_bounds_waiting_queries(concurrent: int, steps: list[bool]) -> None:
    meters, principal, waiting = QuotaMeters(), someone(Quota(concurrent=concurrent)), 0
    meter = None
    for enters in steps:
        if enters:
            try:
                meter = meters.enter(principal, 0.0)
                waiting += 1
            except QuotaExceeded:
                assert waiting == concurrent
        elif waiting and meter is not None:
            meter.leave()
            waiting -= 1
        assert waiting <= concurrent


@pytest.mark.parametrize(
    ("quota", "policy", "most", "window_s"),
    [
        (Quota(10), "rate", 10, 1),
        (Quota(0.5), "rate", 30, 60),
        (Quota(2.5), "rate", 150, 60),
        (Quota(0.001), "rate", 3, 3600),
        (Quota(1 / 7200), "rate", 1, 7200),
        (Quota(concurrent=1), "concurrency", 1, None),
    ],
)
def test_quota_refusal_names_limit_and_window(quota: Quota, policy: str, most: int, window_s: int | None) -> None:
    meters = QuotaMeters()
    for _ in range(int(max(quota.per_second or 1, 1))):
        meters.enter(someone(quota), 0.0)
    with pytest.raises(QuotaExceeded) as refused:
        meters.enter(someone(quota), 0.0)
    use = refused.value.use
    assert use is not None
    assert (use.policy, use.most, use.window_s, use.left) == (policy, most, window_s, 0)
    assert use.reset_s == refused.value.retry_after_s


def test_quota_meters_skip_principal_without_quota() -> None:
    meters = QuotaMeters()
    assert meters.enter(someone(None), 0.0) is None
    assert len(meters) == 0


def test_quota_meters_are_separate_by_principal() -> None:
    meters = QuotaMeters()
    assert asked(meters, someone(Quota(1), "a"), 0.0)
    assert not asked(meters, someone(Quota(1), "a"), 0.0)
    assert asked(meters, someone(Quota(1), "b"), 0.0)


def test_quota_meters_forget_least_recent_principal() -> None:
    meters = QuotaMeters(most=2)
    through = [asked(meters, someone(Quota(0.1), name), 0.0) for name in "abacab"]
    assert through == [True, True, False, True, False, True], "c took the place of b, which began anew"
    assert len(meters) == 2
