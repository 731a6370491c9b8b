"""Tests of `JobRoom`: limits for the jobs that are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.job_room import JobRoom
from schemas.errors import InvalidRequest, QuotaExceeded
from schemas.rows.jobs import JobBacklog


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 60)), max_size=30))
def test_job_room_refuses_beyond_its_limits(asked: list[tuple[int, int]]) -> None:
    room = JobRoom(10, 100)
    room.count(JobBacklog(2, 20), 0.0)
    jobs, size = 2, 20
    for count, each in asked:
        if count * each > 100:
            with pytest.raises(InvalidRequest):
                room.take(count, count * each)
        elif jobs + count > 10 or size + count * each > 100:
            with pytest.raises(QuotaExceeded):
                room.take(count, count * each)
        else:
            room.take(count, count * each)
            jobs, size = jobs + count, size + count * each


def test_job_room_retry_after_follows_rate_of_ended_jobs() -> None:
    room = JobRoom(10, 100)
    assert room.is_stale(0.0)
    room.count(JobBacklog(0, 0), 0.0)
    assert not room.is_stale(0.5)
    room.take(10, 10)
    with pytest.raises(QuotaExceeded) as stuck:
        room.take(1, 1)
    assert stuck.value.retry_after_s == 60.0
    room.count(JobBacklog(8, 8), 2.0)
    with pytest.raises(QuotaExceeded) as moving:
        room.take(7, 7)
    assert moving.value.retry_after_s == 5.0
