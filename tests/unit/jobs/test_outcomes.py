"""What a result makes of a job, and what a job's query says."""

import pytest

from jobs.outcomes import headers_of, read_answer
from schemas import headers as h
from schemas.errors import QUERY_ERRORS, ErrorCode
from schemas.headers import as_text
from schemas.jobs import JobState
from schemas.rows.jobs import DueJob


def test_an_answer_is_kept_with_what_says_how_it_came_about() -> None:
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
def test_errors_that_may_pass_are_met_with_another_attempt_unless_time_is_up(code: ErrorCode) -> None:
    end, may_pass = read_answer({h.ID: "a", h.STATUS: code}, b'{"error": "x"}')
    assert end.state is JobState.FAILED
    assert may_pass == (QUERY_ERRORS[code].retryable and code is not ErrorCode.DEADLINE_EXCEEDED)


def test_what_is_no_result_is_none() -> None:
    with pytest.raises(KeyError):
        read_answer({h.ID: "a"}, b"")
    with pytest.raises(ValueError, match="float"):
        read_answer({h.ID: "a", h.STATUS: "ok", h.COST: "much"}, b"")
    for fields in ({h.ID: "a\0", h.STATUS: "ok"}, {h.ID: "a", h.STATUS: "ok", "tracestate": "\0"}):
        with pytest.raises(ValueError, match="NUL"):  # Postgres would refuse the whole statement, again and again
            read_answer(fields, b"{}")


def test_a_latency_is_what_is_left_of_it() -> None:
    job = DueJob(id="a", task="t", offline=True, headers={h.MIN_ACCURACY: "0.5"}, request=b"", left_ms=1234.5678)
    fields = as_text(headers_of(job, "replies"))
    assert fields == {h.ID: "a", h.REPLY_TO: "replies", h.MIN_ACCURACY: "0.5", h.LATENCY_MS: "1234.568"}
    assert job.topic == "infaas.tasks.t.offline"
