"""What becomes of a job: by the result of its query, or because there will be none. Pure."""

from typing import Final, NamedTuple

from schemas import headers as h
from schemas.errors import QUERY_ERRORS, DeadlineExceeded, ErrorCode, Internal, QueryError, UnknownTask
from schemas.jobs import JobState, state_of_result
from schemas.oip import JSON
from schemas.result import error_value, parse_result
from schemas.rows.jobs import DueJob, JobEnd

_PASSING: Final = frozenset(
    code for code, kind in QUERY_ERRORS.items() if kind.retryable and code is not ErrorCode.DEADLINE_EXCEEDED
)
_LEFT_OUT: Final = frozenset({h.ID, h.CORRELATION})


class JobAnswer(NamedTuple):
    """A result of a job's query."""

    end: JobEnd
    may_pass: bool
    """Whether it is an error that another attempt may not meet."""


def read_answer(fields: dict[str, str], value: bytes) -> JobAnswer:
    """Read what a result record says of a job.

    Raises:
        KeyError: a header is missing.
        ValueError: it is no result.
    """
    result = parse_result(fields, value)
    if any("\0" in text for field in fields.items() for text in field):
        raise ValueError("a header holds NUL, which Postgres does not take")
    kept = {name: text for name, text in fields.items() if name not in _LEFT_OUT}
    end = JobEnd(result.id, state_of_result(result.status), kept, value, result.correlation)
    return JobAnswer(end, result.status in _PASSING)


def failed(job_id: str, error: QueryError) -> JobEnd:
    """The end of a job that is not asked, or of which nothing more will come."""
    headers = {h.STATUS: error.code.value, h.CONTENT_TYPE: JSON}
    return JobEnd(job_id, JobState.FAILED, headers, error_value(str(error)))


def too_late() -> QueryError:
    """Error of a job whose deadline has passed."""
    return DeadlineExceeded("the deadline of the job passed before it was answered")


def never_answered(attempts: int) -> QueryError:
    """Error of a job whose query has gone without an answer, and is not sent again."""
    return Internal(
        f"no answer came to the job's query, which is sent {attempts} times at most, and not beyond its deadline; "
        "`infaas dead-letters list` may say why"
    )


def unregistered(task: str) -> QueryError:
    """Error of a job whose task is gone."""
    return UnknownTask(f"the task {task} was unregistered before the job was answered; register it again and ask anew")


def headers_of(job: DueJob, reply_to: str) -> h.RawHeaders:
    """Headers of the record that asks a job's query; a latency counts from its append, so it is what is left of it.

    It is not signed: the header of that name says only that it may be.
    """
    fields = job.headers | {h.ID: job.id, h.REPLY_TO: reply_to}
    fields.pop(h.SIGNATURE, None)
    if job.left_ms is not None:
        fields[h.LATENCY_MS] = f"{job.left_ms:.3f}"
    return [(name, text.encode()) for name, text in fields.items()]
