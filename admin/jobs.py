"""Jobs: a tenant sees its own jobs of the tasks that its key permits; administrators see all."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Final

import msgspec

from admin.api import RequestContext, endpoint, param
from schemas.access import Principal, Role
from schemas.errors import NotFound
from schemas.jobs import MAX_LISTED, Job, JobProgress, JobResult, JobState
from schemas.openai import BatchError, BatchStatus
from schemas.rows.audit import AuditVerb
from schemas.rows.batches import BatchRow
from store.audit import audited, audited_transaction
from store.batches import cancel_batch, list_batches
from store.jobs import cancel_jobs, get_job_result, job_progress, list_jobs
from store.pool import DatabaseSession

JobIds = Annotated[list[Annotated[str, msgspec.Meta(max_length=64)]], msgspec.Meta(min_length=1, max_length=MAX_LISTED)]
"""List of job ids. The length of an id is limited, because answers and the audit log repeat it."""


class JobsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of the listed jobs: a job must match every field that is given."""

    model: Annotated[str | None, param("Jobs of this task, architecture or variant.")] = None
    state: Annotated[JobState | None, param("Jobs in this state.")] = None
    batch: Annotated[str | None, param("Jobs of the request with this batch id.")] = None
    before: Annotated[str | None, param("Jobs created before the job with this id: the next page.")] = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED), param("Maximum number of jobs.")] = 50


class SomeJobs(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by their ids."""

    ids: Annotated[JobIds, param("Ids of jobs.", metavar="ID...")]


class OneJob(msgspec.Struct, frozen=True, kw_only=True):
    """Job by its id."""

    id: Annotated[str, param("Id of a job.", metavar="ID")]


class JobCancellation(msgspec.Struct, frozen=True, kw_only=True):
    """Result of cancelling jobs."""

    cancelled: list[str]
    not_cancelled: list[str]
    """Jobs that had ended or do not exist."""


@endpoint("jobs.list", "GET", "/v1/jobs", Role.QUERY)
async def list_some(context: RequestContext, request: JobsRequest) -> list[Job]:
    """List the jobs of all models, the latest first."""
    principal = context.principal
    return await list_jobs(
        context.pool,
        model=request.model,
        state=request.state,
        batch=request.batch,
        before=request.before,
        tenant=principal.owner,
        tasks=principal.tasks,
        limit=request.limit,
    )


@endpoint("jobs.show", "GET", "/v1/jobs/some", Role.QUERY)
async def show(context: RequestContext, request: SomeJobs) -> list[Job]:
    """Show jobs; unknown ones are omitted."""
    return await _find(context.pool, context.principal, request.ids)


@endpoint("jobs.cancel", "POST", "/v1/jobs/cancel", Role.QUERY)
async def cancel(context: RequestContext, request: SomeJobs) -> JobCancellation:
    """Cancel jobs that have not ended. Idempotent."""
    # The audit log records an administrator's request in full. For tenants it omits jobs that do not exist for them.
    principal, cancelled = context.principal, list[str]()
    found = {job.id for job in await _find(context.pool, principal, request.ids)}
    theirs = [job for job in dict.fromkeys(request.ids) if job in found]
    if named := request.ids if principal.has(Role.ADMIN) else theirs:
        act = context.act(AuditVerb.CANCEL_JOBS, ", ".join(named))
        async with audited_transaction(context.pool, act) as session:
            cancelled = await cancel_jobs(session, theirs)
    return JobCancellation(cancelled=cancelled, not_cancelled=sorted(set(request.ids) - set(cancelled)))


@endpoint("jobs.result", "GET", "/v1/jobs/{id}/result", Role.QUERY)
async def result(context: RequestContext, request: OneJob) -> JobResult:
    """Return the result of a job, as bytes in base64, with its headers.

    Raises:
        NotFound: the job does not exist, or the caller does not see it.
    """
    found = None
    if await _find(context.pool, context.principal, [request.id]):
        found = await get_job_result(context.pool, request.id)
    if found is None:
        raise NotFound(f"there is no job {request.id}; it may have expired")
    return found


class ProgressRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for the progress of jobs."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED), param("Maximum number of models and batches.")] = 50


class BatchesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Request for a page of batches."""

    after: Annotated[str | None, param("Batches created before the batch with this id: the next page.")] = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED), param("Maximum number of batches.")] = 50


class BatchCancellation(msgspec.Struct, frozen=True, kw_only=True):
    """Request to cancel a batch."""

    id: Annotated[str, msgspec.Meta(max_length=64), param("Id of a batch.", metavar="ID")]


class BatchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Batch of OpenAI's API with the number of its lines."""

    id: str
    tenant: str
    endpoint: str
    status: BatchStatus
    total: int
    """Lines of its file; 0 until it is validated."""
    completed: int
    failed: int
    errors: list[BatchError]
    output_file: str | None
    """File with the answers, for `/v1/files/{id}/content`; None until the batch has ended."""
    error_file: str | None
    """File with the lines that failed."""
    created_at: datetime
    ended_at: datetime | None


@endpoint("jobs.progress", "GET", "/v1/jobs/progress", Role.QUERY)
async def progress(context: RequestContext, request: ProgressRequest) -> list[JobProgress]:
    """Show the number of jobs in each state, by model and batch, the latest first."""
    principal = context.principal
    return await job_progress(context.pool, tenant=principal.owner, tasks=principal.tasks, limit=request.limit)


@endpoint("batches.list", "GET", "/v1/jobs/batches", Role.QUERY)
async def batches(context: RequestContext, request: BatchesRequest) -> list[BatchProgress]:
    """List the batches of OpenAI's API with their progress, the latest first."""
    owner, tasks = context.principal.owner, context.principal.tasks
    rows = await list_batches(context.pool, owner, tasks=tasks, after=request.after, limit=request.limit)
    return [_batch(row) for row in rows]


@endpoint("batches.cancel", "POST", "/v1/jobs/batches/cancel", Role.QUERY)
async def stop_batch(context: RequestContext, request: BatchCancellation) -> BatchProgress:
    """Cancel a batch of OpenAI's API with its jobs; one that has ended stays as it is. Idempotent.

    Raises:
        NotFound: the batch does not exist, belongs to another tenant, or may have jobs of tasks that the key does not
            permit.
    """
    pool, owner = context.pool, context.principal.owner
    if not await list_batches(pool, owner, batch_id=request.id, tasks=context.principal.tasks):
        raise NotFound(f"there is no batch {request.id[:80]!r}")
    async with audited(pool, context.act(AuditVerb.CANCEL_JOBS, request.id)):
        await cancel_batch(pool, request.id)
    return _batch((await list_batches(pool, owner, batch_id=request.id))[0])


def _batch(row: BatchRow) -> BatchProgress:
    return msgspec.convert(row, BatchProgress, from_attributes=True)


async def _find(session: DatabaseSession, principal: Principal, ids: Collection[str]) -> list[Job]:
    return await list_jobs(session, ids=ids, tenant=principal.owner, tasks=principal.tasks, limit=len(ids))


JOBS: Final = (list_some, show, progress, batches, stop_batch, cancel, result)
