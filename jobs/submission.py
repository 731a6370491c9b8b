"""Group commit of jobs: requests that arrive during a transaction are written together in the next one.

Ten thousand requests with one job each thus cost little more than one request with ten thousand. A request is answered
once its jobs are committed. The limit on request bodies in the gateway also bounds the queue of this writer.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from jobs.quota import JobQuota
from schemas.errors import InfaasError, Internal, Overloaded, QueryError, RefusalReason
from schemas.jobs import EarlierJob, NewJob
from store.errors import StoreUnavailable
from store.jobs import job_backlog, put_jobs
from store.pool import Pool

log = logging.getLogger(__name__)

_MOST: Final = 5000
"""Number of jobs from which on no further request joins a transaction."""


class _Request(NamedTuple):
    jobs: Sequence[NewJob]
    earlier: "asyncio.Future[list[EarlierJob]]"


class JobWriter:
    """Writer of the jobs of one gateway; an async context manager."""

    def __init__(self, pool: Pool, quota: JobQuota) -> None:
        self._pool = pool
        self._quota = quota
        self._waiting = list[_Request]()
        self._new = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._writing: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._writing = self._tasks.create_task(self._run(), name="write jobs")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writing.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def put(self, jobs: Sequence[NewJob]) -> list[EarlierJob]:
        """Store jobs, all or none; return the jobs that were already stored under their idempotency keys.

        The result covers all requests of the transaction, so it may contain jobs of other requests.

        Raises:
            QuotaExceeded: too many jobs have not ended.
            Overloaded: Postgres is unavailable. If it failed just now the jobs may be stored; a retry with an
                idempotency key finds out.
        """
        earlier: asyncio.Future[list[EarlierJob]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(jobs, earlier))
        self._new.set()
        return await earlier

    async def _run(self) -> None:
        while True:
            await self._new.wait()
            requests, count = list[_Request](), 0
            while self._waiting and count < _MOST:
                requests.append(self._waiting.pop(0))
                count += len(requests[-1].jobs)
            if not self._waiting:
                self._new.clear()
            try:
                await self._write([one for one in requests if not one.earlier.done()])
            finally:
                for one in requests:
                    if not one.earlier.done():
                        one.earlier.set_exception(Overloaded("the gateway is stopping", reason=RefusalReason.STOPPING))

    async def _write(self, requests: Sequence[_Request]) -> None:
        try:
            if self._quota.is_stale(time.monotonic()):
                self._quota.count(await job_backlog(self._pool), time.monotonic())
            accepted = [one for one in requests if self._admit(one)]
            known = await put_jobs(self._pool, [one.jobs for one in accepted]) if accepted else []
        except StoreUnavailable:
            why = "jobs cannot be stored while Postgres is unavailable; try again later"
            _fail(requests, Overloaded(why, reason=RefusalReason.POSTGRES_UNAVAILABLE))
        except InfaasError as error:
            _fail(requests, error)
        except Exception as error:  # a defect must not affect other queries
            log.error("jobs could not be stored", exc_info=error)
            _fail(requests, Internal())
        else:
            for one in accepted:
                if not one.earlier.done():
                    one.earlier.set_result(known)

    def _admit(self, request: _Request) -> bool:
        try:
            self._quota.take(len(request.jobs), sum(len(job.request) for job in request.jobs))
        except QueryError as error:
            _fail([request], error)
            return False
        return True


def _fail(requests: Sequence[_Request], error: InfaasError) -> None:
    for one in requests:
        if not one.earlier.done():
            one.earlier.set_exception(error)
