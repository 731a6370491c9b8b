"""Jobs as users see them: stored queries, with their states and results, that outlive the request and every process.

    queued -> running -> succeeded
                      -> failed     (with the error of the query)
    a queued or running job may be cancelled by its user

Ids are UUIDs of version 7, which begin with the creation time: sorting by id sorts by time.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from schemas import headers as h
from schemas.needs import Mode
from schemas.result import OK

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


class JobFailure(msgspec.Struct, frozen=True):
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


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """State of a job, as shown to users and sent to webhooks. Times are those of the database's clock."""

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
    """USD per 1000 such queries."""
    error: JobFailure | None = None
    result: str | None = None
    """Path of the result, while it is kept."""
    notice: JobNotice | None = None


def new_job_id(now_ms: int, random_bits: int) -> str:
    """Create a job id from the time and 74 random bits."""
    high, low = random_bits >> 62 & 0xFFF, random_bits & (1 << 62) - 1
    return str(UUID(int=now_ms << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


def job_path(model: str, job_id: str) -> str:
    """Return the URL path of a job at a gateway."""
    return f"/v2/models/{model}/jobs/{job_id}"


def state_of_result(status: str) -> JobState:
    """Return the state of a job whose query ended with this status."""
    return JobState.SUCCEEDED if status == OK else JobState.FAILED


def answered_by(fields: Mapping[str, str]) -> tuple[str | None, float | None, float | None]:
    """Return variant, accuracy and cost from the headers of a result."""
    accuracy, cost = fields.get(h.ACCURACY), fields.get(h.COST)
    return fields.get(h.VARIANT), float(accuracy) if accuracy else None, float(cost) if cost else None
