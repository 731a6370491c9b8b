"""Job queue as the jobs services process it: due jobs, results and notices.

Any number of services may share the queue. Each locks the rows it works on until its transaction ends, and skips rows
locked by others. If a service is killed, Postgres releases its rows. An ended job never changes again.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from schemas.jobs import NoticeState
from schemas.rows.jobs import DueJob, DueNotice, JobEnd, JobResult, JobSize
from schemas.topics import JOB_RESULTS, TASKS, VARIANTS
from store.jobs import JobId, list_jobs, parts_of
from store.pool import DatabaseSession, Pool
from store.sql import load_queries

_queries = load_queries("jobs")
_CLAIM_DUE: Final = _queries["claim_due"]
_READ_DUE: Final = _queries["read_due"]
_MARK_SENT: Final = _queries["mark_sent"]
_POSTPONE: Final = _queries["postpone"]
_END_JOBS: Final = _queries["end_jobs"]
_SEND_AGAIN: Final = _queries["send_again"]
_EXPIRED_JOBS: Final = _queries["expired_jobs"]
_TASKS_GONE: Final = _queries["tasks_gone"]
_JOBS_OF_TASK: Final = _queries["jobs_of_task"]
_LOST_JOBS: Final = _queries["lost_jobs"]
_PRUNE_RESULTS: Final = _queries["prune_results"]
_PRUNE_JOBS: Final = _queries["prune_jobs"]
_CLAIM_NOTICES: Final = _queries["claim_notices"]
_READ_RESULTS: Final = _queries["read_results"]
_NOTE_NOTICE: Final = _queries["note_notice"]


class _TaskName(msgspec.Struct):
    task: str


class JobSending:
    """Jobs that are sent in one transaction. Jobs that are not marked as sent become due again after it."""

    def __init__(self, session: DatabaseSession, jobs: list[DueJob]) -> None:
        self._session = session
        self.jobs = jobs

    async def sent(self, ids: Collection[str]) -> None:
        """Mark jobs as sent."""
        await self._session.execute(_MARK_SENT, list(ids))

    async def ended(self, ends: Sequence[JobEnd]) -> None:
        """Store the results of jobs that ended without being sent."""
        await end_jobs(self._session, ends)

    async def postponed(self, ids: Collection[str], pause_s: float) -> None:
        """Postpone the sending of jobs by `pause_s` seconds."""
        await self._session.execute(_POSTPONE, list(ids), pause_s)


@asynccontextmanager
async def sending_jobs(pool: Pool, most: int, most_bytes: int) -> AsyncGenerator[JobSending]:
    """Claim due jobs that no other service is sending, while the context is open; at least one, if one is due.

    At most `most` jobs and, except for the first, `most_bytes` bytes of requests are claimed.

    Raises:
        StoreUnavailable: Postgres is or became unavailable; all claimed jobs are due again.
    """
    async with pool.transaction() as session:
        taken, size = list[str](), 0
        for job in await session.fetch(JobSize, _CLAIM_DUE, most):
            if taken and size + job.request_bytes > most_bytes:
                break
            taken.append(job.id)
            size += job.request_bytes
        yield JobSending(session, await session.fetch(DueJob, _READ_DUE, taken) if taken else [])


async def end_jobs(session: DatabaseSession, ends: Sequence[JobEnd]) -> list[str]:
    """Store the ends of jobs; return the ids of jobs that had not ended before. The call is idempotent.

    The first end of each job counts. A result whose correlation differs from that of the job's query is ignored.
    """
    ended = list[str]()
    for part in parts_of(ends, lambda end: len(end.value)):
        columns = [[getattr(end, name) for end in part] for name in JobEnd.__struct_fields__]
        ended += [row.id for row in await session.fetch(JobId, _END_JOBS, *columns)]
    return ended


async def send_again(
    session: DatabaseSession,
    ids: Sequence[str],
    attempts: int,
    pause_s: float,
    correlations: Sequence[str | None] = (),
) -> list[str]:
    """Schedule jobs to be sent again, with exponential back-off; return the ids of all jobs that are to be sent.

    Jobs that were already sent `attempts` times, or whose deadline would pass during the pause, are left out.
    `correlations` are those of the results that cause the retry: a job is left out if it differs from that of its
    query.
    """
    rows = await session.fetch(JobId, _SEND_AGAIN, list(ids), attempts, pause_s, list(correlations))
    return [row.id for row in rows]


async def expired_jobs(session: DatabaseSession, grace_s: float, most: int) -> list[str]:
    """List jobs whose deadline passed at least `grace_s` seconds ago, so that no answer can arrive."""
    return [row.id for row in await session.fetch(JobId, _EXPIRED_JOBS, grace_s, most)]


async def tasks_gone(session: DatabaseSession) -> list[str]:
    """List tasks that are no longer registered but have jobs that have not ended."""
    return [row.task for row in await session.fetch(_TaskName, _TASKS_GONE)]


async def jobs_of_task(session: DatabaseSession, task: str, most: int) -> list[str]:
    """List jobs of a task that have not ended."""
    return [row.id for row in await session.fetch(JobId, _JOBS_OF_TASK, task, most)]


async def lost_jobs(session: DatabaseSession, after_s: float, most: int) -> list[str]:
    """List jobs that were sent at least `after_s` seconds ago and of which Kafka holds neither a query nor a result.

    The list is empty while the lag is unknown.
    """
    return [row.id for row in await session.fetch(JobId, _LOST_JOBS, after_s, most, TASKS, VARIANTS, JOB_RESULTS)]


async def prune_results(session: DatabaseSession, kept_s: float, most: int) -> int:
    """Delete the results of jobs that ended at least `kept_s` seconds ago; return their number."""
    return await session.execute(_PRUNE_RESULTS, kept_s, most)


async def prune_jobs(session: DatabaseSession, kept_s: float, most: int) -> int:
    """Delete jobs that ended at least `kept_s` seconds ago; return their number."""
    return await session.execute(_PRUNE_JOBS, kept_s, most)


async def claim_notices(pool: Pool, most: int, claim_s: float) -> list[DueNotice]:
    """Claim due notices; others may claim them after `claim_s` seconds unless an outcome is stored before."""
    ids = [row.id for row in await pool.fetch(JobId, _CLAIM_NOTICES, most, claim_s)]
    if not ids:
        return []
    rows = await list_jobs(pool, ids=ids, limit=len(ids))
    to_topics = [row.id for row in rows if row.reply_to is not None]
    results = {r.id: r.result for r in await pool.fetch(JobResult, _READ_RESULTS, to_topics, None)} if to_topics else {}
    return [DueNotice(job=row, attempts=row.notice_attempts, result=results.get(row.id)) for row in rows]


async def note_notice(
    session: DatabaseSession, job_id: str, state: NoticeState, attempts: int, error: str = "", again_s: float = 0.0
) -> None:
    """Store the outcome of a delivery attempt; a `waiting` notice is due again after `again_s` seconds."""
    await session.execute(_NOTE_NOTICE, job_id, state, error, again_s, attempts)
