"""Tests of the outcome of a job from its result, and of the headers of its query."""

import pytest

from gateway.jobs.outcomes import headers_of, read_end
from schemas import headers as h
from schemas.errors import QUERY_ERRORS, ErrorCode
from schemas.headers import as_text
from schemas.jobs import DueJob, JobEnd, JobState


def test_read_end_keeps_value_and_result_headers() -> None:
    fields = {h.ID: "a", h.CORRELATION: "b", h.STATUS: "ok", h.COST: "0.5"}
    assert read_end(fields, b"{}") == JobEnd("a", JobState.SUCCEEDED, {h.STATUS: "ok", h.COST: "0.5"}, b"{}", "b")


@pytest.mark.parametrize("code", ErrorCode)
def test_read_end_retries_transient_errors_in_time(code: ErrorCode) -> None:
    end = read_end({h.ID: "a", h.STATUS: code}, b'{"error": "x"}')
    assert end.state is JobState.FAILED
    assert end.retryable == (QUERY_ERRORS[code].retryable and code is not ErrorCode.DEADLINE_EXCEEDED)


def test_read_end_raises_on_malformed_result() -> None:
    with pytest.raises(KeyError):
        read_end({h.ID: "a"}, b"")
    with pytest.raises(ValueError, match="float"):
        read_end({h.ID: "a", h.STATUS: "ok", h.COST: "much"}, b"")
    for fields in ({h.ID: "a\0", h.STATUS: "ok"}, {h.ID: "a", h.STATUS: "ok", "tracestate": "\0"}):
        with pytest.raises(ValueError, match="NUL"):  # Postgres would refuse the whole statement at each attempt
            read_end(fields, b"{}")


def test_headers_of_job_hold_remaining_latency() -> None:
    job = DueJob(id="a", task="t", offline=True, headers={h.MIN_ACCURACY: "0.5"}, request=b"", left_ms=1234.5678)
    fields = as_text(headers_of(job, "replies"))
    assert fields == {h.ID: "a", h.REPLY_TO: "replies", h.MIN_ACCURACY: "0.5", h.LATENCY_MS: "1234.568"}
    assert job.topic == "infaas.tasks.t.offline"
