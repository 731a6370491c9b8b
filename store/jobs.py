"""Jobs as gateways and clients use them: stored, listed and cancelled, and their results read.

Online queries do not use these tables. Many jobs are written at once: a statement takes arrays, and a transaction
contains as many statements as necessary; all jobs are stored or none.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from schemas.jobs import JobState
from schemas.rows.jobs import JobBacklog, JobResult, JobRow, KeptJob, NewJob, differs
from store.pool import DatabaseSession, Pool
from store.sql import load_queries

_queries = load_queries("jobs")
_PUT_JOBS: Final = _queries["put_jobs"]
_KEPT_JOBS: Final = _queries["kept_jobs"]
_TAKE_BACK: Final = _queries["take_back"]
_BACKLOG: Final = _queries["backlog"]
_LIST_JOBS: Final = _queries["list_jobs"]
_READ_RESULTS: Final = _queries["read_results"]
_CANCEL_JOBS: Final = _queries["cancel_jobs"]

_COLUMNS: Final = (
    *("id", "model", "task", "offline", "headers", "request", "deadline_s"),
    *("batch", "idempotency_key", "fingerprint", "webhook", "reply_to"),
)
"""Columns in the order of the statement's array parameters."""
_ROWS: Final = 1000
_BYTES: Final = 16 * 1024 * 1024
"""Maximum number of jobs, and approximate maximum of their bytes, in one statement."""
T = TypeVar("T")


class JobId(msgspec.Struct):
    """Row with the id of a job."""

    id: str


async def put_jobs(pool: Pool, requests: Sequence[Sequence[NewJob]]) -> list[KeptJob]:
    """Store the jobs of several requests in one transaction; return earlier jobs with the same idempotency keys.

    A job whose key is already stored is not stored again. If a request reuses a key with different content, none of its
    jobs are stored.

    Raises:
        StoreUnavailable: Postgres is unavailable; nothing is stored, or after a timeout possibly everything.
    """
    jobs = [job for request in requests for job in request]
    keys = [job.idempotency_key for job in jobs if job.idempotency_key is not None]
    async with pool.transaction() as session:
        new = 0
        for part in parts_of(jobs, lambda job: len(job.request)):
            new += len(await session.fetch(JobId, _PUT_JOBS, *_columns(part)))
        if new == len(jobs):
            return []
        kept = {one.idempotency_key: one for one in await session.fetch(KeptJob, _KEPT_JOBS, keys)}
        refused = [job.id for request in requests if differs(request, kept) for job in request]
        if refused:
            await session.execute(_TAKE_BACK, refused)
        return list(kept.values())


def parts_of(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Split items into the parts that one statement each writes."""
    part, size = list[T](), 0
    for item in items:
        if len(part) == _ROWS or (part and size + size_of(item) > _BYTES):
            yield part
            part, size = [], 0
        part.append(item)
        size += size_of(item)
    if part:
        yield part


def _columns(jobs: Sequence[NewJob]) -> list[list[object]]:
    return [[getattr(job, name) for job in jobs] for name in _COLUMNS]


async def job_backlog(session: DatabaseSession) -> JobBacklog:
    """Return the number and size of the jobs that have not ended."""
    found = await session.fetch_one(JobBacklog, _BACKLOG)
    assert found is not None  # an aggregate always returns a row
    return found


async def list_jobs(
    session: DatabaseSession,
    *,
    model: str | None = None,
    state: JobState | None = None,
    batch: str | None = None,
    before: str | None = None,
    ids: Collection[str] | None = None,
    tenant: str | None = None,
    tasks: Collection[str] | None = None,
    limit: int = 100,
) -> list[JobRow]:
    """List jobs, newest first, that match every given filter; `before` is an id that limits the list to older jobs.

    `tasks` limits the list to jobs of these tasks. `tenant` limits it to jobs of a tenant; an empty string means jobs
    without a tenant.
    """
    wanted, some = (None if names is None else list(names) for names in (ids, tasks))
    return await session.fetch(JobRow, _LIST_JOBS, model, state, batch, before, wanted, tenant, limit, some)


async def get_job(session: DatabaseSession, job_id: str, tenant: str | None = None) -> JobRow | None:
    """Return a job, or None if it does not exist or belongs to a tenant other than the given one."""
    return next(iter(await list_jobs(session, ids=[job_id], tenant=tenant)), None)


async def get_job_result(session: DatabaseSession, job_id: str, tenant: str | None = None) -> JobResult | None:
    """Return the result of a job, if it has one; None if the job does not exist or belongs to another tenant."""
    return await session.fetch_one(JobResult, _READ_RESULTS, [job_id], tenant)


async def cancel_jobs(session: DatabaseSession, ids: Collection[str]) -> list[str]:
    """Cancel jobs; return the ids of the jobs that had not ended. Results that arrive later are ignored."""
    return [row.id for row in await session.fetch(JobId, _CANCEL_JOBS, list(ids))]
