"""Tests of `JobQuota`: limit of unfinished jobs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.submission import JobQuota
from schemas.errors import InvalidRequest, QuotaExceeded
from schemas.jobs import JobBacklog


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 60)), max_size=30))
def test_job_quota_refuses_beyond_its_limits(asked: list[tuple[int, int]]) -> None:
    quota = JobQuota(10, 100)
    quota.count(JobBacklog(2, 20), 0.0)
    jobs, size = 2, 20
    for count, each in asked:
        if count * each > 100:
            with pytest.raises(InvalidRequest):
                quota.take(count, count * each)
        elif jobs + count > 10 or size + count * each > 100:
            with pytest.raises(QuotaExceeded):
                quota.take(count, count * each)
        else:
            quota.take(count, count * each)
            jobs, size = jobs + count, size + count * each


def test_job_quota_retry_after_follows_rate_of_ended_jobs() -> None:
    quota = JobQuota(10, 100)
    assert quota.is_stale(0.0)
    quota.count(JobBacklog(0, 0), 0.0)
    assert not quota.is_stale(0.5)
    quota.take(10, 10)
    with pytest.raises(QuotaExceeded) as stuck:
        quota.take(1, 1)
    assert stuck.value.retry_after_s == 60.0
    quota.count(JobBacklog(8, 8), 2.0)
    with pytest.raises(QuotaExceeded) as moving:
        quota.take(7, 7)
    assert moving.value.retry_after_s == 5.0
