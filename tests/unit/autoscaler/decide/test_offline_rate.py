"""Tests of the rate at which offline backlogs are worked off: by their deadlines, or within hours."""

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decide.offline_rate import offline_rate
from autoscaler.decide.snapshot import Backlog

DRAIN_S = 14_400.0
CATCH_UP_S = 60.0


def due(inputs: float, left_s: float | None = None) -> Backlog:
    return Backlog(task="digits", offline=True, inputs=inputs, left_s=left_s)


def rate(*backlogs: Backlog) -> float:
    return offline_rate(backlogs, DRAIN_S, CATCH_UP_S)


def test_offline_rate_without_deadline_takes_hours() -> None:
    assert rate() == 0.0
    assert rate(due(14_400)) == 1.0


def test_offline_rate_follows_the_window() -> None:
    assert rate(due(5340, left_s=5400)) == 1.0, "90 min, less the time until new capacity serves"
    assert rate(due(14_400, left_s=86_400)) == rate(due(14_400)), "24 h ask for no less than no deadline"
    assert rate(due(5340, left_s=5400)) > 2 * rate(due(5340, left_s=86_400))


def test_offline_rate_reserves_time_for_new_capacity() -> None:
    assert rate(due(600, left_s=1.0)) == 10.0, "capacity for less time would come too late"
    assert rate(due(600, left_s=120.0)) == 10.0
    assert rate(due(600, left_s=180.0)) == 5.0


def test_offline_rate_takes_the_steepest_deadline() -> None:
    assert rate(due(1000, left_s=1060), due(1000, left_s=4060)) == 1.0, "the second has time after the first"
    assert rate(due(3000, left_s=4060), due(1000, left_s=1060)) == 1.0
    assert rate(due(7000, left_s=4060), due(1000, left_s=1060)) == 2.0


def test_offline_rate_adds_work_without_deadline() -> None:
    assert rate(due(14_400), due(5340, left_s=5400)) == 2.0


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 1e5)), min_size=1, max_size=8))
def test_offline_rate_finishes_everything_in_time(works: list[tuple[int, float]]) -> None:
    found, done = rate(*(due(inputs, left_s) for inputs, left_s in works)), 0
    for inputs, left_s in sorted(works, key=lambda work: work[1]):
        done += inputs
        assert done <= found * min(max(left_s - CATCH_UP_S, CATCH_UP_S), DRAIN_S) * (1 + 1e-9)
