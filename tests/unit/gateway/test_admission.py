"""What a gateway refuses by itself: only what a selector has just refused, never all of it, and in bounded room."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import Admission
from schemas.errors import Overloaded
from schemas.needs import Needs
from schemas.query import MAX_TURNED_AWAY, Query

NOW = 1000.0
PROBE_S = 0.05


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
    """For how long it is refused; None: it is not."""
    try:
        admission.ask(asked, now)
    except Overloaded as error:
        return error.retry_after_s
    return None


def test_what_was_refused_is_refused_here_until_the_moment_named() -> None:
    admission = told_full(0.03)
    with pytest.raises(Overloaded) as refusal:
        admission.ask(query(), NOW + 0.01)
    assert refusal.value.retry_after_s == pytest.approx(0.02)
    assert admission.ask(query(), NOW + 0.03) == 1
    assert len(admission) == 0, "a class that is open again takes no room"


@pytest.mark.parametrize("other", [query("acme"), query(latency_ms=200.0), query(accuracy=0.9)])
def test_others_are_not_refused_for_it(other: Query) -> None:
    assert told_full().ask(other, NOW) == 0


def test_any_other_answer_opens_it_and_the_next_says_how_many_were_refused() -> None:
    admission = told_full()
    for _ in range(3):
        with pytest.raises(Overloaded):
            admission.ask(query(), NOW)
    admission.answered(query())
    assert admission.ask(query(), NOW) == 3
    assert admission.ask(query(), NOW) == 0
    assert len(admission) == 0


def test_a_word_is_not_believed_for_ever() -> None:
    assert told_full(3600.0).ask(query(), NOW + 6.0) == 0


def test_the_number_refused_has_a_bound() -> None:
    admission = told_full(1.0)
    for _ in range(MAX_TURNED_AWAY + 5):
        with pytest.raises(Overloaded):
            admission.ask(query(), NOW)
    assert admission.ask(query(), NOW + 1.0) == MAX_TURNED_AWAY


def test_the_table_is_bounded() -> None:
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
def test_only_classes_whose_last_answer_was_overloaded_are_refused_and_all_are_probed(
    steps: list[tuple[str, str, float, float]],
) -> None:
    admission, now = Admission(), NOW
    last_refused: dict[str, bool] = {}
    passed_at: dict[str, float] = {}
    until: dict[str, float] = {}
    for action, tenant, wait_s, retry_after_s in steps:
        now += wait_s
        if action == "refused":
            if not last_refused.get(tenant) or until.get(tenant, now) <= now:
                passed_at[tenant] = now  # it went through just before
            until[tenant] = now + retry_after_s
            admission.refused(query(tenant), retry_after_s, now)
            last_refused[tenant] = True
        elif action == "answered":
            admission.answered(query(tenant))
            last_refused[tenant] = False
        else:
            refused_s = refusal_s(admission, query(tenant), now)
            if refused_s is None:
                passed_at[tenant] = now
                continue
            assert last_refused[tenant]
            assert 0 < refused_s <= 3.0
            assert now - passed_at[tenant] < PROBE_S + 0.041, "a class is asked about again and again"


@pytest.mark.parametrize("times", [1.2, 2.0, 5.0, 20.0])
def test_a_server_is_kept_busy_and_spared_most_of_what_it_cannot_do(times: float) -> None:
    """A server does 200 a second and refuses what would wait over 100 ms, behind a gateway that is asked for more."""
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
    if times >= 5.0:
        assert passed < 0.7 * count
