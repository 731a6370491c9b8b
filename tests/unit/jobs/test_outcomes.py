"""Tests of the outcome of a job from its result, and of the headers of its query."""

import pytest

from jobs.outcomes import headers_of, read_answer
from schemas import headers as h
from schemas.errors import QUERY_ERRORS, ErrorCode
from schemas.headers import as_text
from schemas.jobs import JobState
from schemas.rows.jobs import DueJob


def test_read_answer_keeps_value_and_result_headers() -> None:
    fields = {h.ID: "a", h.CORRELATION: "b", h.STATUS: "ok", h.COST: "0.5"}
    (end, may_pass) = read_answer(fields, b"{}")
    assert (end.id, end.state, end.headers, end.value) == (
        "a",
        JobState.SUCCEEDED,
        {h.STATUS: "ok", h.COST: "0.5"},
        b"{}",
    )
    assert not may_pass


@pytest.mark.parametrize("code", ErrorCode)
def test_read_answer_retries_transient_errors_in_time(code: ErrorCode) -> None:
    end, may_pass = read_answer({h.ID: "a", h.STATUS: code}, b'{"error": "x"}')
    assert end.state is JobState.FAILED
    assert may_pass == (QUERY_ERRORS[code].retryable and code is not ErrorCode.DEADLINE_EXCEEDED)


def test_read_answer_raises_on_malformed_result() -> None:
    with pytest.raises(KeyError):
        read_answer({h.ID: "a"}, b"")
    with pytest.raises(ValueError, match="float"):
        read_answer({h.ID: "a", h.STATUS: "ok", h.COST: "much"}, b"")
    for fields in ({h.ID: "a\0", h.STATUS: "ok"}, {h.ID: "a", h.STATUS: "ok", "tracestate": "\0"}):
        with pytest.raises(ValueError, match="NUL"):  # Postgres would refuse the whole statement at each attempt
            read_answer(fields, b"{}")


def test_headers_of_job_hold_remaining_latency() -> None:
    job = DueJob(id="a", task="t", offline=True, headers={h.MIN_ACCURACY: "0.5"}, request=b"", left_ms=1234.5678)
    fields = as_text(headers_of(job, "replies"))
    assert fields == {h.ID: "a", h.REPLY_TO: "replies", h.MIN_ACCURACY: "0.5", h.LATENCY_MS: "1234.568"}
    assert job.topic == "infaas.tasks.t.offline"
