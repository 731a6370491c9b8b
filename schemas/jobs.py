"""Jobs: stored queries, with their states and results, that outlive the request and every process.

    queued -> running -> succeeded
                      -> failed     (with the error of the query)
    a queued or running job may be cancelled by its user

`Job` is the form that the store returns, that users see and that webhooks receive. `NewJob`, `DueJob`, `JobEnd` and
`DueNotice` are the steps of a job: stored, sent, ended, notified. Ids are UUIDs of version 7, which begin with the
creation time: sorting by id sorts by time.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from schemas.query import Mode
from schemas.rows.batches import LineReply
from schemas.topics import query_topic

KEY: Final = "Idempotency-Key"
"""HTTP header with an idempotency key: a repeated request creates no second job."""
WEBHOOK: Final = "webhook"
"""Query parameter with the URL to notify when a job has ended."""
MAX_KEY: Final = 255
MAX_LISTED: Final = 1000


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    """Stored and not sent yet."""
    RUNNING = "running"
    """Sent to a worker, or being computed."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class NoticeState(StrEnum):
    """Delivery state of the notice of a job's end."""

    WAITING = "waiting"
    """The job has not ended, or the notice has not been delivered yet."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """The receiver refused it permanently, or too many attempts failed."""


class JobError(msgspec.Struct, frozen=True):
    """Error with which a job ended."""

    code: str
    message: str


class JobNotice(msgspec.Struct, frozen=True):
    """Notice of a job's end, sent to a webhook or a reply topic."""

    to: str
    """URL, or name of a topic."""
    state: NoticeState = NoticeState.WAITING
    attempts: int = 0
    error: str = ""
    """Reason why the last attempt failed."""


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Job without its request and result, as users see it. Times are those of the database's clock."""

    id: str
    model: str
    task: str
    state: JobState
    mode: Mode
    batch: str | None = None
    """Batch id, which the jobs of one request share."""
    created_at: datetime
    deadline_at: datetime | None = None
    sent_at: datetime | None = None
    """Time of the last attempt to send it to a worker."""
    finished_at: datetime | None = None
    attempts: int
    """Number of attempts to send it to a worker."""
    variant: str | None = None
    accuracy: float | None = None
    cost: float | None = None
    """USD per 1000 such queries, or per 1000 tokens of a generative answer."""
    error: JobError | None = None
    result: str | None = None
    """Path of the result, while it is kept."""
    notice: JobNotice | None = None


class JobProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of the jobs of a model that share a batch id, or of those without one."""

    model: str
    batch: str | None
    created_at: datetime
    """Time of the first one."""
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    ended_per_s: float
    """Jobs that ended each second, in the last minute."""

    @property
    def left(self) -> int:
        """Number of jobs that have not ended."""
        return self.queued + self.running

    @property
    def total(self) -> int:
        """Number of all jobs."""
        return self.left + self.succeeded + self.failed + self.cancelled

    @property
    def left_s(self) -> float | None:
        """Seconds until all have ended at the rate of the last minute; None: none ended, or none is left."""
        return self.left / self.ended_per_s if self.left and self.ended_per_s else None


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
    line: LineReply | None = None
    """Of a line of an OpenAI batch: its name and the form of its answer."""


class EarlierJob(msgspec.Struct, frozen=True):
    """Stored job with an idempotency key that a new job has, too."""

    id: str
    idempotency_key: bytes
    fingerprint: bytes


class JobBacklog(msgspec.Struct, frozen=True):
    """Totals of the jobs that have not ended."""

    jobs: int
    bytes: int


class DatedWork(msgspec.Struct, frozen=True, kw_only=True):
    """Offline work of a task with about the same deadline."""

    task: str
    left_s: float
    """Seconds until the first of its deadlines."""
    sent: int
    """Jobs whose queries were sent: they wait in Kafka or are computed."""
    unsent: float
    """Jobs whose queries are not sent yet, and expected jobs of lines that a batch has not stored yet."""


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
        return query_topic(self.task, offline=self.offline)


class JobEnd(msgspec.Struct, frozen=True):
    """End of a job: the headers and value of its result."""

    id: str
    state: JobState
    headers: dict[str, str]
    value: bytes
    correlation: str | None = None
    """Correlation of the result, which must equal that of the job's query. None: the jobs service itself ends the
    job."""
    retryable: bool = False
    """True if it is an error that a retry may avoid."""


class JobResult(msgspec.Struct, frozen=True):
    """Result of a job, if it is available."""

    id: str
    model: str
    state: JobState
    result_headers: dict[str, str] | None
    result: bytes | None


class DueNotice(msgspec.Struct, frozen=True):
    """Ended job whose notice is due, for a webhook or with the result for a reply topic."""

    job: Job
    attempts: int
    """Number of earlier attempts."""
    webhook: str | None = None
    reply_to: str | None = None
    result_headers: dict[str, str] | None = None
    result: bytes | None = None
    trace: Mapping[str, str] = {}
    """Headers of the trace context."""


def new_job_id(now_ms: int, random_bits: int) -> str:
    """Create a job id from the time and 74 random bits."""
    high, low = random_bits >> 62 & 0xFFF, random_bits & (1 << 62) - 1
    return str(UUID(int=now_ms << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


def job_path(model: str, job_id: str) -> str:
    """Return the URL path of a job at a gateway."""
    return f"/v2/models/{model}/jobs/{job_id}"


def reuses_key(jobs: Iterable[NewJob], earlier: Mapping[bytes, EarlierJob]) -> bool:
    """Return true if one of these jobs has the idempotency key of a different request."""
    known = ((job, earlier.get(job.idempotency_key or b"")) for job in jobs)
    return any(before is not None and before.fingerprint != job.fingerprint for job, before in known)
