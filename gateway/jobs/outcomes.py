"""End of a job: from the result of its query, or from an error if there will be no result. Pure."""

from typing import Final

from schemas import headers as h
from schemas.errors import QUERY_ERRORS, DeadlineExceeded, ErrorCode, Internal, QueryError, UnknownTask
from schemas.jobs import DueJob, JobEnd, JobState
from schemas.result import OK, error_value, parse_result
from schemas.signature import JSON

_RETRYABLE: Final = frozenset(
    code for code, kind in QUERY_ERRORS.items() if kind.retryable and code is not ErrorCode.DEADLINE_EXCEEDED
)
_LEFT_OUT: Final = frozenset({h.ID, h.CORRELATION})


def read_end(fields: dict[str, str], value: bytes) -> JobEnd:
    """Read the end of a job from a result record.

    Raises:
        KeyError: a header is missing.
        ValueError: the record is not a valid result.
    """
    result = parse_result(fields, value)
    if any("\0" in text for field in fields.items() for text in field):
        raise ValueError("a header contains NUL, which Postgres does not accept")
    kept = {name: text for name, text in fields.items() if name not in _LEFT_OUT}
    state = JobState.SUCCEEDED if result.status == OK else JobState.FAILED
    return JobEnd(result.id, state, kept, value, result.correlation, retryable=result.status in _RETRYABLE)


def failed(job_id: str, error: QueryError) -> JobEnd:
    """Return the end of a job that is not sent, or for which no result is expected any more."""
    headers = {h.STATUS: error.code.value, h.CONTENT_TYPE: JSON}
    if error.reason is not None:
        headers[h.REASON] = error.reason.value
    return JobEnd(job_id, JobState.FAILED, headers, error_value(str(error), error.reason))


def too_late() -> QueryError:
    """Return the error of a job whose deadline has passed."""
    return DeadlineExceeded("the deadline of the job passed before it was answered")


def never_answered(attempts: int) -> QueryError:
    """Return the error of a job whose query was not answered and is not sent again."""
    return Internal(
        f"the job's query was not answered; it is sent {attempts} times at most, and not beyond its deadline; "
        "`infaas dead-letters list` may say why"
    )


def unregistered(task: str) -> QueryError:
    """Return the error of a job whose task was unregistered."""
    return UnknownTask(
        f"the task {task} was unregistered before the job was answered; register it and submit the job again"
    )


def headers_of(job: DueJob, reply_to: str) -> h.RawHeaders:
    """Return the headers of a job's query record; its latency is the time left, counted from the append of the record.

    The record is not signed here: the signature header of a stored job only marks that it may be signed.
    """
    fields = job.headers | {h.ID: job.id, h.REPLY_TO: reply_to}
    fields.pop(h.SIGNATURE, None)
    if job.left_ms is not None:
        fields[h.LATENCY_MS] = f"{job.left_ms:.3f}"
    return [(name, text.encode()) for name, text in fields.items()]
