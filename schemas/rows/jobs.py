"""Rows of jobs: requests, queries to send, results, and notices to deliver."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from schemas import headers as h
from schemas.jobs import JobFailure, JobNotice, JobState, JobStatus, NoticeState, answered_by, job_path
from schemas.needs import Mode
from schemas.result import error_message
from schemas.topics import offline_topic, task_topic


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """Job to store."""

    id: str
    model: str
    task: str
    offline: bool
    headers: dict[str, str]
    """Headers of the query's record, without headers that are known only at its send time."""
    request: bytes
    deadline_s: float | None = None
    """Time until the deadline in seconds."""
    batch: str | None = None
    idempotency_key: bytes | None = None
    fingerprint: bytes = b""
    """Hash of the request, which detects a different request under the same idempotency key."""
    webhook: str | None = None
    reply_to: str | None = None


class KeptJob(msgspec.Struct, frozen=True):
    """Job that is stored under an idempotency key."""

    id: str
    idempotency_key: bytes
    fingerprint: bytes


def differs(jobs: Iterable[NewJob], kept: Mapping[bytes, KeptJob]) -> bool:
    """Return true if one of these jobs reuses the idempotency key of a different request."""
    known = ((job, kept.get(job.idempotency_key or b"")) for job in jobs)
    return any(before is not None and before.fingerprint != job.fingerprint for job, before in known)


class JobBacklog(msgspec.Struct, frozen=True):
    """Totals of the jobs that have not ended."""

    jobs: int
    bytes: int


class JobSize(msgspec.Struct, frozen=True):
    """Job to send, and the size of its request in bytes."""

    id: str
    request_bytes: int


class DueJob(msgspec.Struct, frozen=True):
    """Job to send now."""

    id: str
    task: str
    offline: bool
    headers: dict[str, str]
    request: bytes
    left_ms: float | None
    """Milliseconds until its deadline; None: it has no deadline."""

    @property
    def topic(self) -> str:
        """Topic of its query."""
        return offline_topic(self.task) if self.offline else task_topic(self.task)


class JobEnd(msgspec.Struct, frozen=True):
    """End of a job: the headers and value of its result."""

    id: str
    state: JobState
    headers: dict[str, str]
    value: bytes
    correlation: str | None = None
    """Correlation of the result, which must equal that of the job's query. None: the jobs service itself ends the
    job."""


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """Job without its request; of its result only the error is included."""

    id: str
    batch: str | None
    model: str
    task: str
    state: JobState
    offline: bool
    created_at: datetime
    deadline_at: datetime | None
    sent_at: datetime | None
    finished_at: datetime | None
    attempts: int
    result_headers: dict[str, str] | None
    error: bytes | None
    """Value of the error result."""
    has_result: bool
    webhook: str | None
    reply_to: str | None
    notice: NoticeState | None
    notice_attempts: int
    notice_error: str

    def status(self) -> JobStatus:
        """Return the job's state in the form that users see."""
        fields = self.result_headers or {}
        variant, accuracy, cost = answered_by(fields)
        error = None if self.error is None else error_message(self.error)
        return JobStatus(
            id=self.id,
            model=self.model,
            task=self.task,
            state=self.state,
            mode=Mode.OFFLINE if self.offline else Mode.ONLINE,
            batch=self.batch,
            created_at=self.created_at,
            deadline_at=self.deadline_at,
            sent_at=self.sent_at,
            finished_at=self.finished_at,
            attempts=self.attempts,
            variant=variant,
            accuracy=accuracy,
            cost=cost,
            error=None if error is None else JobFailure(fields.get(h.STATUS, "internal"), error),
            result=f"{job_path(self.model, self.id)}/result" if self.has_result else None,
            notice=self._notice(),
        )

    def _notice(self) -> JobNotice | None:
        to = self.webhook or self.reply_to
        if to is None:
            return None
        return JobNotice(to, self.notice or NoticeState.WAITING, self.notice_attempts, self.notice_error)


class JobResult(msgspec.Struct, frozen=True):
    """Result of a job, if it is available."""

    id: str
    model: str
    state: JobState
    result_headers: dict[str, str] | None
    result: bytes | None


class DueNotice(msgspec.Struct, frozen=True, kw_only=True):
    """Ended job whose notice is due."""

    job: JobRow
    attempts: int
    """Number of earlier attempts."""
    result: bytes | None
