"""Job endpoints of the admin API. A tenant manages its own jobs, an administrator the jobs of all tenants."""

from typing import Annotated, Final

import msgspec

from schemas.endpoints.endpoint import Endpoint
from schemas.jobs import MAX_LISTED, Job, JobResult, JobState
from schemas.principal import Role

JobIds = Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(min_length=1, max_length=MAX_LISTED)]
"""List of job ids. The length of an id is limited, because answers and the audit log repeat it."""


class JobsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed jobs: a job must match every field that is given."""

    model: str | None = None
    """Task, architecture or variant."""
    state: JobState | None = None
    batch: str | None = None
    """Batch id, which the jobs of one request share."""
    before: str | None = None
    """Id of a job; only jobs created before it are listed, which gives the next page."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED)] = 50


class SomeJobs(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by their ids."""

    ids: JobIds


class OneJob(msgspec.Struct, frozen=True, kw_only=True):
    """Job by its id."""

    id: str


class JobCancellation(msgspec.Struct, frozen=True, kw_only=True):
    """Result of cancelling jobs."""

    cancelled: list[str]
    not_cancelled: list[str]
    """Jobs that had ended or do not exist."""


LIST: Final = Endpoint(
    name="jobs.list",
    method="GET",
    path="/v1/jobs",
    role=Role.QUERY,
    request=JobsRequest,
    result=list[Job],
    summary="List the jobs of all models, the latest first.",
)
SHOW: Final = Endpoint(
    name="jobs.show",
    method="GET",
    path="/v1/jobs/some",
    role=Role.QUERY,
    request=SomeJobs,
    result=list[Job],
    summary="Show jobs; unknown ones are omitted.",
)
CANCEL: Final = Endpoint(
    name="jobs.cancel",
    method="POST",
    path="/v1/jobs/cancel",
    role=Role.QUERY,
    request=SomeJobs,
    result=JobCancellation,
    summary="Cancel jobs that have not ended. Idempotent.",
)
RESULT: Final = Endpoint(
    name="jobs.result",
    method="GET",
    path="/v1/jobs/{id}/result",
    role=Role.QUERY,
    request=OneJob,
    result=JobResult,
    summary="Return the result of a job, as bytes in base64, with its headers.",
)
JOBS: Final = (LIST, SHOW, CANCEL, RESULT)
