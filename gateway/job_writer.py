"""Keeps jobs: those that are asked for while others are being written are written together, in one transaction.

So ten thousand requests of one job each cost little more than one of ten thousand. Who asked is answered once its jobs
are committed. What waits to be written is bounded by the bodies that the gateway holds.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from gateway.job_room import JobRoom
from schemas.errors import InfaasError, Internal, Overloaded, QueryError
from schemas.rows.jobs import KeptJob, NewJob
from store.errors import StoreUnavailable
from store.jobs import job_backlog, put_jobs
from store.pool import Pool

log = logging.getLogger(__name__)

_MOST: int = 5000
"""Jobs at and above which no more requests are added to a transaction."""


class _Request(NamedTuple):
    jobs: Sequence[NewJob]
    kept: "asyncio.Future[list[KeptJob]]"


class JobWriter:
    """Writer of the jobs of one gateway; an async context manager."""

    def __init__(self, pool: Pool, room: JobRoom) -> None:
        self._pool = pool
        self._room = room
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

    async def put(self, jobs: Sequence[NewJob]) -> list[KeptJob]:
        """Keep jobs, all or none; returns those that were kept before under keys, theirs among them.

        Raises:
            QuotaExceeded: too many have not ended.
            Overloaded: Postgres is away. They may have been kept if it went away just now; a key finds that out.
        """
        kept: asyncio.Future[list[KeptJob]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(jobs, kept))
        self._new.set()
        return await kept

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
                await self._write([one for one in requests if not one.kept.done()])
            finally:
                for one in requests:
                    if not one.kept.done():
                        one.kept.set_exception(Overloaded("the gateway is stopping"))

    async def _write(self, requests: Sequence[_Request]) -> None:
        try:
            if self._room.is_stale(time.monotonic()):
                self._room.count(await job_backlog(self._pool), time.monotonic())
            accepted = [one for one in requests if self._admit(one)]
            known = await put_jobs(self._pool, [one.jobs for one in accepted]) if accepted else []
        except StoreUnavailable:
            _fail(requests, Overloaded("jobs cannot be kept at the moment, Postgres is away; try again later"))
        except InfaasError as error:
            _fail(requests, error)
        except Exception as error:  # a defect of ours must not cost other queries
            log.error("jobs could not be kept", exc_info=error)
            _fail(requests, Internal())
        else:
            for one in accepted:
                if not one.kept.done():
                    one.kept.set_result(known)

    def _admit(self, request: _Request) -> bool:
        try:
            self._room.take(len(request.jobs), sum(len(job.request) for job in request.jobs))
        except QueryError as error:
            _fail([request], error)
            return False
        return True


def _fail(requests: Sequence[_Request], error: InfaasError) -> None:
    for one in requests:
        if not one.kept.done():
            one.kept.set_exception(error)
