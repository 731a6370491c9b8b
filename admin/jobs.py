"""Jobs: a tenant sees its own jobs of the tasks that its key permits; administrators see all."""

from collections.abc import Collection
from typing import Final

from admin.binding import bind
from admin.control import RequestContext
from schemas.endpoints.jobs import (
    CANCEL,
    LIST,
    RESULT,
    SHOW,
    JobCancellation,
    JobsRequest,
    OneJob,
    SomeJobs,
)
from schemas.errors import NotFound
from schemas.jobs import Job, JobResult
from schemas.principal import Principal, Role
from schemas.rows.audit import AuditVerb
from store.audit import audited_transaction
from store.jobs import cancel_jobs, get_job_result, list_jobs
from store.pool import DatabaseSession


async def list_some(control: RequestContext, request: JobsRequest) -> list[Job]:
    """List jobs, the latest first."""
    principal = control.principal
    return await list_jobs(
        control.pool,
        model=request.model,
        state=request.state,
        batch=request.batch,
        before=request.before,
        tenant=_owner(principal),
        tasks=principal.tasks,
        limit=request.limit,
    )


async def show(control: RequestContext, request: SomeJobs) -> list[Job]:
    """List the jobs with these ids that the caller sees."""
    return await _find(control.pool, control.principal, request.ids)


async def cancel(control: RequestContext, request: SomeJobs) -> JobCancellation:
    """Cancel jobs that have not ended.

    The audit log records an administrator's request in full. For tenants it omits jobs that do not exist for them.
    """
    principal, cancelled = control.principal, list[str]()
    found = {job.id for job in await _find(control.pool, principal, request.ids)}
    theirs = [job for job in dict.fromkeys(request.ids) if job in found]
    if named := request.ids if principal.has(Role.ADMIN) else theirs:
        act = control.act(AuditVerb.CANCEL_JOBS, ", ".join(named))
        async with audited_transaction(control.pool, act) as session:
            cancelled = await cancel_jobs(session, theirs)
    return JobCancellation(cancelled=cancelled, not_cancelled=sorted(set(request.ids) - set(cancelled)))


async def result(control: RequestContext, request: OneJob) -> JobResult:
    """Return the result of a job; it is empty while the job has not ended.

    Raises:
        NotFound: the job does not exist, or the caller does not see it.
    """
    found = None
    if await _find(control.pool, control.principal, [request.id]):
        found = await get_job_result(control.pool, request.id)
    if found is None:
        raise NotFound(f"there is no job {request.id}; it may have expired")
    return found


async def _find(session: DatabaseSession, principal: Principal, ids: Collection[str]) -> list[Job]:
    return await list_jobs(session, ids=ids, tenant=_owner(principal), tasks=principal.tasks, limit=len(ids))


def _owner(principal: Principal) -> str | None:
    """Return the tenant whose jobs the principal sees: empty for jobs without a tenant, None for all jobs."""
    return None if principal.has(Role.ADMIN) else principal.tenant or ""


BINDINGS: Final = (bind(LIST, list_some), bind(SHOW, show), bind(CANCEL, cancel), bind(RESULT, result))
