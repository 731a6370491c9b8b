"""Jobs as gateways and people ask for them: kept, listed, cancelled, and their results.

Online queries know nothing of this. Many jobs are written at once: a statement takes arrays, and a transaction as many
statements as there are jobs; all are kept or none.
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
"""In the order of the statement's arrays."""
_ROWS: Final = 1000
_BYTES: Final = 16 * 1024 * 1024
"""Most jobs, and about the most bytes of them, that are written by one statement."""
T = TypeVar("T")


class JobId(msgspec.Struct):
    """Row with nothing but the id of a job."""

    id: str


async def put_jobs(pool: Pool, requests: Sequence[Sequence[NewJob]]) -> list[KeptJob]:
    """Keep the jobs of requests, all or none; returns those that were kept before under a key of theirs.

    Those are not kept again; of a request that asks for something else under a key that is known nothing is kept.

    Raises:
        StoreUnavailable: Postgres is away; none is kept, or if it does not answer, perhaps all.
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
    """What is written by one statement after the other."""
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
    """Count the jobs that have not ended."""
    found = await session.fetch_one(JobBacklog, _BACKLOG)
    assert found is not None  # an aggregate has a row
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
    """List jobs, the latest first: all, or those of a model, in a state, of a batch, made before one, of these ids.

    Those of some `tasks` alone, if they are given, and of a `tenant`; an empty one: of those who have none.
    """
    wanted, some = (None if names is None else list(names) for names in (ids, tasks))
    return await session.fetch(JobRow, _LIST_JOBS, model, state, batch, before, wanted, tenant, limit, some)


async def get_job(session: DatabaseSession, job_id: str, tenant: str | None = None) -> JobRow | None:
    """Read a job, of a tenant if one is given; None if there is none."""
    return next(iter(await list_jobs(session, ids=[job_id], tenant=tenant)), None)


async def get_job_result(session: DatabaseSession, job_id: str, tenant: str | None = None) -> JobResult | None:
    """Read the result of a job as far as there is one, of a tenant if one is given; None if there is no such job."""
    return await session.fetch_one(JobResult, _READ_RESULTS, [job_id], tenant)


async def cancel_jobs(session: DatabaseSession, ids: Collection[str]) -> list[str]:
    """Cancel jobs; returns those that had not ended. What is computed of them already is dropped."""
    return [row.id for row in await session.fetch(JobId, _CANCEL_JOBS, list(ids))]
