"""Submission of jobs: the limit of unfinished jobs, and group commit.

Requests that arrive during a transaction are written together in the next one. Ten thousand requests with one job each
thus cost little more than one request with ten thousand. A request is answered once its jobs are committed. The limit
on request bodies in the gateway also bounds the queue of this writer.

All gateways share one limit of unfinished jobs. Each knows the count in the database, at most a second old, and its own
additions since. The limit may therefore be exceeded by the additions of other gateways. The retry time of a refusal
follows from the rate at which jobs end.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from math import inf
from types import TracebackType
from typing import Final, NamedTuple, Self

from schemas.errors import InfaasError, Internal, InvalidRequest, Overloaded, QueryError, QuotaExceeded, RefusalReason
from schemas.jobs import EarlierJob, JobBacklog, NewJob
from store.errors import StoreUnavailable
from store.jobs import job_backlog, put_jobs
from store.pool import Pool

_FRESH_S: Final = 1.0
_LEAST_S: Final = 1.0
_MOST_S: Final = 60.0
"""Minimum and maximum retry time of a refusal in seconds."""
log = logging.getLogger(__name__)
_MOST: Final = 5000
"""Number of jobs from which on no further request joins a transaction."""


class JobQuota:
    """Remaining capacity for unfinished jobs, as one gateway knows it."""

    def __init__(self, max_jobs: int, max_bytes: int) -> None:
        self._max = JobBacklog(max_jobs, max_bytes)
        self._counted = JobBacklog(0, 0)
        self._counted_at = -inf
        self._added = 0
        self._added_bytes = 0
        self._ended_per_s = 0.0

    def is_stale(self, now: float) -> bool:
        """Return true if the jobs must be counted before more are accepted."""
        return now - self._counted_at >= _FRESH_S

    def count(self, backlog: JobBacklog, now: float) -> None:
        """Record the count of unfinished jobs."""
        ended = self._counted.jobs + self._added - backlog.jobs
        self._ended_per_s = max(ended, 0) / (now - self._counted_at)
        self._counted, self._counted_at = backlog, now
        self._added = self._added_bytes = 0

    def take(self, jobs: int, size: int) -> None:
        """Reserve capacity for `jobs` jobs of `size` bytes in total.

        Raises:
            QuotaExceeded: there is no capacity at present; the error holds a retry time.
            InvalidRequest: the request exceeds the limit itself.
        """
        if jobs > self._max.jobs or size > self._max.bytes:
            raise InvalidRequest(
                f"{jobs} jobs of {size} bytes exceed the limit of {self._max.jobs} jobs and {self._max.bytes} bytes"
            )
        waiting, held = self._counted.jobs + self._added, self._counted.bytes + self._added_bytes
        if waiting + jobs > self._max.jobs or held + size > self._max.bytes:
            raise QuotaExceeded(
                f"{waiting} jobs with {held} bytes have not ended; the limit is {self._max.jobs} jobs and "
                f"{self._max.bytes} bytes: try again later",
                retry_after_s=self._retry_after_s(waiting + jobs - self._max.jobs),
            )
        self._added += jobs
        self._added_bytes += size

    def _retry_after_s(self, too_many: int) -> float:
        """Return the estimated seconds until `too_many` jobs have ended, at the recent rate."""
        if not self._ended_per_s:
            return _MOST_S
        return min(max(too_many / self._ended_per_s, _LEAST_S), _MOST_S)


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
