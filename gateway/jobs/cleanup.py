"""Periodic checks of jobs that no event reports: past deadlines, unregistered tasks, lost jobs, retention.

Every jobs service runs these checks; the second to check finds nothing. A job is ended here only when its result is no
longer expected: some time after its deadline passed or its task was unregistered.

Kafka may lose queries, as when a topic is deleted and created again. The lag reveals such a loss: a job that is sent
while no work of its task and no result is left in Kafka is sent again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.jobs import metrics
from gateway.jobs.outcomes import failed, never_answered, too_late, unregistered
from gateway.jobs.settings import JobsSettings
from process.outages import FailureLog
from process.pauses import IdlePause
from schemas.errors import QueryError
from store import jobs as stored
from store.errors import StoreUnavailable
from store.pool import Pool

log = logging.getLogger(__name__)

_AT_ONCE: Final = 1000
"""Maximum number of rows that one statement changes."""


class JobCleanup:
    """Cleanup of all jobs; it calls `ended` when it has ended some."""

    def __init__(
        self, pool: Pool, settings: JobsSettings, ended: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._ended = ended
        self._clock = clock
        self._pause = IdlePause(settings.interval_s)
        self._unregistered_since = dict[str, float]()
        self._failures = FailureLog("cleaning up jobs", "they stay as they are")

    async def run(self) -> None:
        """Run the checks until cancelled."""
        tidied = -self._settings.tidy_interval_s
        while True:
            ended = False
            try:
                ended = await self.expire()
                if self._clock() - tidied >= self._settings.tidy_interval_s:
                    await self.tidy()
                    tidied = self._clock()
            except StoreUnavailable as error:
                self._failures.failed(error)
            else:
                self._failures.recovered()
            await asyncio.sleep(self._pause.after(ended))

    async def tidy(self) -> None:
        """Run the checks that are not urgent."""
        await self.end_unregistered()
        await self.retry_lost()
        await self.prune()

    async def expire(self) -> bool:
        """End jobs whose deadline and grace period have passed without a result; return true if there were any."""
        grace_s, some = self._settings.deadline_grace_s, False
        while ids := await stored.expired_jobs(self._pool, grace_s, _AT_ONCE):
            await self._end(ids, too_late())
            some = True
        return some

    async def end_unregistered(self) -> None:
        """End the jobs of tasks that were unregistered more than `unregistered_s` ago."""
        now = self._clock()
        tasks = await stored.unregistered_tasks(self._pool)
        self._unregistered_since = {task: self._unregistered_since.get(task, now) for task in tasks}
        for task, since in self._unregistered_since.items():
            if now - since < self._settings.unregistered_s:
                continue
            while ids := await stored.jobs_of_task(self._pool, task, _AT_ONCE):
                await self._end(ids, unregistered(task))

    async def retry_lost(self) -> None:
        """Send the jobs again of which Kafka holds nothing any more."""
        lost = await stored.lost_jobs(self._pool, self._settings.lost_s, _AT_ONCE)
        if lost:
            await self.resend(lost)

    async def resend(self, lost: list[str]) -> None:
        """Send lost jobs again; end those without attempts or time left."""
        attempts = self._settings.max_attempts
        retried = await stored.retry_jobs(self._pool, lost, attempts, self._settings.retry_pause_s)
        log.warning("Kafka holds neither query nor result of %d jobs: sending %d again", len(lost), len(retried))
        metrics.RETRIES.labels("lost").inc(len(retried))
        await self._end(sorted({*lost} - {*retried}), never_answered(attempts))

    async def prune(self) -> None:
        """Delete expired results, and then expired jobs."""
        settings = self._settings
        await self._prune("result", lambda: stored.prune_results(self._pool, settings.result_retention_s, _AT_ONCE))
        await self._prune("job", lambda: stored.prune_jobs(self._pool, settings.retention_s, _AT_ONCE))

    async def _prune(self, kind: str, some: Callable[[], Awaitable[int]]) -> None:
        while count := await some():
            metrics.PRUNED.labels(kind).inc(count)

    async def _end(self, ids: list[str], error: QueryError) -> None:
        ended = await stored.end_jobs(self._pool, [failed(job_id, error) for job_id in ids])
        metrics.ENDED.labels("failed").inc(len(ended))
        if ended:
            self._ended()
