"""Jobs as users see them: queries that outlive who asked them, their states, and their results.

    queued -> running -> succeeded
                      -> failed     (with the error that the query would have had)
    either may be cancelled by its user instead

An id begins with the time of its making (UUID version 7), so that jobs in the order of their ids are in that of time.
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
"""Header of HTTP by which the same job, asked for again, is not made again."""
WEBHOOK: Final = "webhook"
"""Parameter of a URL: where to say that a job has ended."""
MAX_KEY: Final = 255
MAX_LISTED: Final = 1000


class JobState(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"
    """Kept, and not yet on its way."""
    RUNNING = "running"
    """On its way to a worker, or computed."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class NoticeState(StrEnum):
    """How far the notice came that tells of a job's end."""

    WAITING = "waiting"
    """The job has not ended, or the notice is yet to be delivered."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """It was refused for good, or too often."""


class JobFailure(msgspec.Struct, frozen=True):
    """Error that a job ended with."""

    code: str
    message: str


class JobNotice(msgspec.Struct, frozen=True):
    """Notice of a job's end, to a webhook or a reply topic."""

    to: str
    """URL, or name of a topic."""
    state: NoticeState = NoticeState.WAITING
    attempts: int = 0
    error: str = ""
    """Why the last attempt failed."""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Present state of a job, as it is shown and sent to webhooks. Times are the database's."""

    id: str
    model: str
    task: str
    state: JobState
    mode: Mode
    batch: str | None = None
    """Name that those have in common which were asked for in one request."""
    created_at: datetime
    deadline_at: datetime | None = None
    sent_at: datetime | None = None
    """When it was last sent on its way."""
    finished_at: datetime | None = None
    attempts: int
    """Times that it was sent on its way."""
    variant: str | None = None
    accuracy: float | None = None
    cost: float | None = None
    """USD per 1000 such queries."""
    error: JobFailure | None = None
    result: str | None = None
    """Path of the result, while there is one."""
    notice: JobNotice | None = None


def new_job_id(now_ms: int, random_bits: int) -> str:
    """Make an id of the time and of 74 random bits."""
    high, low = random_bits >> 62 & 0xFFF, random_bits & (1 << 62) - 1
    return str(UUID(int=now_ms << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


def job_path(model: str, job_id: str) -> str:
    """Path of a job at a gateway."""
    return f"/v2/models/{model}/jobs/{job_id}"


def state_of_result(status: str) -> JobState:
    """The state of a job whose query has this status."""
    return JobState.SUCCEEDED if status == OK else JobState.FAILED


def answered_by(fields: Mapping[str, str]) -> tuple[str | None, float | None, float | None]:
    """Variant, accuracy and cost, as the headers of a result say them."""
    accuracy, cost = fields.get(h.ACCURACY), fields.get(h.COST)
    return fields.get(h.VARIANT), float(accuracy) if accuracy else None, float(cost) if cost else None
