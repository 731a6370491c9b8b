"""Tests of `Admission`: the gateway refuses only query classes that a selector just refused."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.admission import Admission
from schemas.errors import Overloaded
from schemas.query import MAX_REJECTED_UPSTREAM, Needs, Query

NOW = 1000.0


def query(tenant: str | None = None, *, latency_ms: float = 100.0, accuracy: float | None = None) -> Query:
    return Query(
        id="q", task="digits", reply_to="r", sent_ms=5.0, deadline_ms=5.0 + latency_ms, tenant=tenant,
        needs=Needs(latency_ms=latency_ms, min_accuracy=accuracy),
    )  # fmt: skip


def told_full(retry_after_s: float = 1.0) -> Admission:
    made = Admission()
    made.refused(query(), retry_after_s, NOW)
    return made


def refusal_s(admission: Admission, asked: Query, now: float) -> float | None:
    """Return for how many seconds a query is refused; None if it is accepted."""
    try:
        admission.ask(asked, now)
    except Overloaded as error:
        return error.retry_after_s
    return None


def test_admission_refuses_class_until_retry_after() -> None:
    admission = told_full(0.03)
    with pytest.raises(Overloaded) as refusal:
        admission.ask(query(), NOW + 0.01)
    assert refusal.value.retry_after_s == pytest.approx(0.02)
    assert admission.ask(query(), NOW + 0.03) == 1
    assert len(admission) == 0, "a class that is open again takes no room"


@pytest.mark.parametrize("other", [query("acme"), query(latency_ms=200.0), query(accuracy=0.9)])
def test_admission_accepts_other_classes(other: Query) -> None:
    assert told_full().ask(other, NOW) == 0


def test_admission_lets_one_query_through_by_answer() -> None:
    admission = told_full()
    for _ in range(3):
        assert refusal_s(admission, query(), NOW) is not None
    admission.answered(query())
    passed = [refusal_s(admission, query(), NOW + 0.01) is None for _ in range(5)]
    assert passed == [True] + [False] * 4


def test_admission_returns_refused_count() -> None:
    admission = told_full()
    for _ in range(3):
        assert refusal_s(admission, query(), NOW) is not None
    admission.answered(query())
    assert admission.ask(query(), NOW) == 3
    admission.answered(query())
    assert admission.ask(query(), NOW) == 0


def test_admission_bounds_admitted_queries_that_have_not_come() -> None:
    admission = told_full()
    for _ in range(100):
        admission.answered(query())
    assert sum(refusal_s(admission, query(), NOW) is None for _ in range(100)) == 16


def test_admission_bounds_retry_after() -> None:
    assert told_full(3600.0).ask(query(), NOW + 6.0) == 0


def test_admission_bounds_refused_count() -> None:
    admission = told_full(1.0)
    for _ in range(MAX_REJECTED_UPSTREAM + 5):
        with pytest.raises(Overloaded):
            admission.ask(query(), NOW)
    assert admission.ask(query(), NOW + 1.0) == MAX_REJECTED_UPSTREAM


def test_admission_bounds_its_table() -> None:
    admission = Admission(most=10)
    for number in range(50):
        admission.refused(query(f"t{number}"), 1.0, NOW)
    assert len(admission) == 10
    assert admission.ask(query("t0"), NOW) == 0, "forgotten, so let through"


steps = st.lists(
    st.tuples(
        st.sampled_from(["ask", "refused", "answered"]),
        st.sampled_from(["a", "b", "c", "d"]),
        st.floats(0.0, 0.04),
        st.floats(0.0, 3.0),
    ),
    max_size=60,
)


@given(steps)
def test_admission_refuses_only_overloaded_until_retry_after(steps: list[tuple[str, str, float, float]]) -> None:
    admission, now = Admission(), NOW
    until: dict[str, float] = {}
    for action, tenant, wait_s, retry_after_s in steps:
        now += wait_s
        if action == "refused":
            until[tenant] = now + retry_after_s
            admission.refused(query(tenant), retry_after_s, now)
        elif action == "answered":
            admission.answered(query(tenant))
        else:
            refused_s = refusal_s(admission, query(tenant), now)
            if refused_s is not None:
                assert 0 < refused_s <= 3.0
                assert refused_s == pytest.approx(until[tenant] - now)


@pytest.mark.parametrize("times", [1.2, 2.0, 5.0, 20.0])
def test_admission_keeps_server_busy_and_limits_excess(times: float) -> None:
    """The server answers 200 queries per second, and refuses queries that would wait for over 100 ms."""
    capacity, seconds, way_s = 200.0, 20.0, 0.003
    admission = Admission()
    answers: deque[tuple[float, Query | None, float]] = deque()
    free_at, passed, done = NOW, 0, 0
    count = int(times * capacity * seconds)
    for number in range(count):
        now = NOW + number / (times * capacity)
        due = [answer for answer in answers if answer[0] <= now]
        answers = deque(answer for answer in answers if answer[0] > now)
        for at, asked, retry_after_s in due:
            if asked is None:
                admission.answered(query())
            else:
                admission.refused(asked, retry_after_s, at)
        try:
            admission.ask(query(), now)
        except Overloaded:
            continue
        passed += 1
        if free_at - now > 0.1:
            answers.append((now + way_s, query(), free_at - now))
        else:
            free_at = max(free_at, now) + 1 / capacity
            answers.append((free_at + way_s, None, 0.0))
            done += 1
    assert done >= 0.95 * min(1.0, times) * capacity * seconds
    assert passed <= 1.6 * capacity * seconds
