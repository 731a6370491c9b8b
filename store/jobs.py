"""Jobs: stored by gateways, sent and ended by jobs services, seen by users.

Any number of services may share the jobs. Each locks the rows it works on until its transaction ends, and skips rows
locked by others. If a service is killed, Postgres releases its rows. An ended job never changes again.

Online queries do not use this table. Many jobs are written at once: a statement takes arrays, and a transaction has as
many statements as necessary; all jobs are stored or none.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import msgspec

from schemas import headers as h
from schemas.jobs import (
    DatedWork,
    DueJob,
    DueNotice,
    EarlierJob,
    Job,
    JobBacklog,
    JobEnd,
    JobError,
    JobProgress,
    JobResult,
    JobState,
    NewJob,
    NoticeState,
    job_path,
    reuses_key,
)
from schemas.result import error_message
from schemas.topics import JOB_RESULTS, TASKS, VARIANTS
from store.pool import DatabaseSession, Pool, load_queries

_SQL: Final = load_queries("jobs")

_NEW: Final = (
    *("id", "model", "task", "offline", "headers", "request", "deadline_s"),
    *("batch", "idempotency_key", "fingerprint", "webhook", "reply_to", "line"),
)
_END: Final = ("id", "state", "headers", "value", "correlation")
"""Fields in the order of the statements' array parameters."""
_DATED_JOBS: Final = 100_000
_DATED_BATCHES: Final = 100
_SAMPLED_LINES: Final = 100
"""Maximum number of jobs, of batches, and of lines of each batch, from which the dated work is counted."""
_ROWS: Final = 1000
_BYTES: Final = 16 * 1024 * 1024
"""Maximum number of jobs, and approximate maximum of their bytes, in one statement."""
T = TypeVar("T")


class _JobRow(Job, frozen=True, kw_only=True):
    """Job without the fields that its result contains, and the columns of the result."""

    has_result: bool
    result_headers: dict[str, str] | None
    error_value: bytes | None
    """Value of the error result."""


class _ClaimedNotice(msgspec.Struct):
    id: str
    webhook: str | None
    reply_to: str | None
    notice_attempts: int
    result_headers: dict[str, str] | None
    result: bytes | None
    trace: dict[str, str]


async def put_jobs(pool: Pool, requests: Sequence[Sequence[NewJob]]) -> list[EarlierJob]:
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
        for part in _parts(jobs, lambda job: len(job.request)):
            new += len(await session.fetch_values(str, _SQL["put_jobs"], *_arrays(part, _NEW)))
        if new == len(jobs):
            return []
        earlier = {one.idempotency_key: one for one in await session.fetch(EarlierJob, _SQL["earlier_jobs"], keys)}
        refused = [job.id for request in requests if reuses_key(request, earlier) for job in request]
        if refused:
            await session.execute(_SQL["rollback"], refused)
        return list(earlier.values())


async def job_backlog(session: DatabaseSession) -> JobBacklog:
    """Return the number and size of the jobs that have not ended."""
    found = await session.fetch_one(JobBacklog, _SQL["backlog"])
    assert found is not None  # an aggregate always returns a row
    return found


async def dated_work(session: DatabaseSession, within_s: float) -> list[DatedWork]:
    """Return the offline work whose deadline passes within some seconds, by task and minute of the deadline.

    Beyond the limits of a reading the work with the latest deadlines is left out.
    """
    args = (within_s, _DATED_JOBS, _DATED_BATCHES, _SAMPLED_LINES)
    return await session.fetch(DatedWork, _SQL["dated_work"], *args)


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
) -> list[Job]:
    """List jobs, newest first, that match every given filter; `before` is an id that limits the list to older jobs.

    `tasks` limits the list to jobs of these tasks. `tenant` limits it to jobs of a tenant; an empty string means jobs
    without a tenant.
    """
    wanted, some = (None if names is None else list(names) for names in (ids, tasks))
    rows = await session.fetch(_JobRow, _SQL["list_jobs"], model, state, batch, before, wanted, tenant, limit, some)
    return [_job(row) for row in rows]


async def job_progress(
    session: DatabaseSession, *, tenant: str | None = None, tasks: Collection[str] | None = None, limit: int = 100
) -> list[JobProgress]:
    """Return the progress of jobs by model and batch, the latest first; the filters are those of `list_jobs`."""
    some = None if tasks is None else list(tasks)
    return await session.fetch(JobProgress, _SQL["job_progress"], tenant, some, limit)


def _job(row: _JobRow) -> Job:
    """Complete a job by the fields that its result contains."""
    fields = row.result_headers or {}
    accuracy, cost = fields.get(h.ACCURACY), fields.get(h.COST)
    error = None if row.error_value is None else error_message(row.error_value)
    columns: dict[str, Any] = {name: getattr(row, name) for name in Job.__struct_fields__}
    columns |= {
        "variant": fields.get(h.VARIANT),
        "accuracy": float(accuracy) if accuracy else None,
        "cost": float(cost) if cost else None,
        "error": None if error is None else JobError(fields.get(h.STATUS, "internal"), error),
        "result": f"{job_path(row.model, row.id)}/result" if row.has_result else None,
    }
    return Job(**columns)


async def get_job(session: DatabaseSession, job_id: str, tenant: str | None = None) -> Job | None:
    """Return a job, or None if it does not exist or belongs to a tenant other than the given one."""
    return next(iter(await list_jobs(session, ids=[job_id], tenant=tenant)), None)


async def get_job_result(session: DatabaseSession, job_id: str, tenant: str | None = None) -> JobResult | None:
    """Return the result of a job, if it has one; None if the job does not exist or belongs to another tenant."""
    return await session.fetch_one(JobResult, _SQL["read_result"], job_id, tenant)


async def cancel_jobs(session: DatabaseSession, ids: Collection[str]) -> list[str]:
    """Cancel jobs; return the ids of the jobs that had not ended. Results that arrive later are ignored."""
    return await session.fetch_values(str, _SQL["cancel_jobs"], list(ids))


@asynccontextmanager
async def claiming_due_jobs(
    pool: Pool, most: int, most_bytes: int
) -> AsyncGenerator[tuple[DatabaseSession, list[DueJob]]]:
    """Claim due jobs that no other service is sending, while the context is open; at least one, if one is due.

    At most `most` jobs and, except for the first, `most_bytes` bytes of requests are claimed. Jobs that are not marked
    as sent in the session become due again after it.

    Raises:
        StoreUnavailable: Postgres is or became unavailable; all claimed jobs are due again.
    """
    async with pool.transaction() as session:
        yield session, await session.fetch(DueJob, _SQL["claim_due"], most, most_bytes)


async def mark_sent(session: DatabaseSession, ids: Collection[str]) -> None:
    """Mark due jobs as sent."""
    await session.execute(_SQL["mark_sent"], list(ids))


async def postpone_jobs(session: DatabaseSession, ids: Collection[str], pause_s: float) -> None:
    """Postpone the sending of due jobs by `pause_s` seconds."""
    await session.execute(_SQL["postpone"], list(ids), pause_s)


async def end_jobs(session: DatabaseSession, ends: Sequence[JobEnd]) -> list[str]:
    """Store the ends of jobs; return the ids of jobs that had not ended before. The call is idempotent.

    The first end of each job counts. A result whose correlation differs from that of the job's query is ignored.
    """
    ended = list[str]()
    for part in _parts(ends, lambda end: len(end.value)):
        ended += await session.fetch_values(str, _SQL["end_jobs"], *_arrays(part, _END))
    return ended


async def retry_jobs(
    session: DatabaseSession, ids: Sequence[str], attempts: int, pause_s: float, correlations: Sequence[str | None] = ()
) -> list[str]:
    """Schedule jobs to be sent again, with exponential back-off; return the ids of all jobs that are to be sent.

    Jobs that were already sent `attempts` times, or whose deadline would pass during the pause, are left out.
    `correlations` are those of the results that cause the retry: a job is left out if it differs from that of its
    query.
    """
    return await session.fetch_values(str, _SQL["retry_jobs"], list(ids), attempts, pause_s, list(correlations))


async def expired_jobs(session: DatabaseSession, grace_s: float, most: int) -> list[str]:
    """List jobs whose deadline passed at least `grace_s` seconds ago, so that no answer can arrive."""
    return await session.fetch_values(str, _SQL["expired_jobs"], grace_s, most)


async def unregistered_tasks(session: DatabaseSession) -> list[str]:
    """List tasks that are no longer registered but have jobs that have not ended."""
    return await session.fetch_values(str, _SQL["unregistered_tasks"])


async def jobs_of_task(session: DatabaseSession, task: str, most: int) -> list[str]:
    """List jobs of a task that have not ended."""
    return await session.fetch_values(str, _SQL["jobs_of_task"], task, most)


async def lost_jobs(session: DatabaseSession, after_s: float, most: int) -> list[str]:
    """List jobs that were sent at least `after_s` seconds ago and of which Kafka holds neither a query nor a result.

    The list is empty while the lag is unknown.
    """
    return await session.fetch_values(str, _SQL["lost_jobs"], after_s, most, TASKS, VARIANTS, JOB_RESULTS)


async def prune_results(session: DatabaseSession, kept_s: float, most: int) -> int:
    """Delete the results of jobs that ended at least `kept_s` seconds ago; return their number."""
    return await session.execute(_SQL["prune_results"], kept_s, most)


async def prune_jobs(session: DatabaseSession, kept_s: float, most: int) -> int:
    """Delete jobs that ended at least `kept_s` seconds ago; return their number."""
    return await session.execute(_SQL["prune_jobs"], kept_s, most)


async def claim_notices(pool: Pool, most: int, claim_s: float) -> list[DueNotice]:
    """Claim due notices; others may claim them after `claim_s` seconds unless an outcome is stored before."""
    claimed = await pool.fetch(_ClaimedNotice, _SQL["claim_notices"], most, claim_s)
    if not claimed:
        return []
    jobs = {job.id: job for job in await list_jobs(pool, ids=[one.id for one in claimed], limit=len(claimed))}
    return [
        DueNotice(
            jobs[one.id],
            one.notice_attempts,
            one.webhook,
            one.reply_to,
            one.result_headers,
            one.result,
            one.trace,
        )
        for one in claimed
        if one.id in jobs
    ]


async def record_notice(
    session: DatabaseSession, job_id: str, state: NoticeState, attempts: int, error: str = "", pause_s: float = 0.0
) -> None:
    """Store the outcome of a delivery attempt; a `waiting` notice is due again after `pause_s` seconds."""
    await session.execute(_SQL["record_notice"], job_id, state, error, pause_s, attempts)


def _parts(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
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


def _arrays(items: Sequence[object], fields: Sequence[str]) -> list[list[object]]:
    return [[getattr(item, name) for item in items] for name in fields]
