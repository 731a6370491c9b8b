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

from jobs import metrics
from jobs.idle_pause import IdlePause
from jobs.outcomes import failed, never_answered, too_late, unregistered
from jobs.settings import JobsSettings
from process.failure_log import FailureLog
from schemas.errors import QueryError
from store import job_queue
from store.errors import StoreUnavailable
from store.pool import Pool

log = logging.getLogger(__name__)

_AT_ONCE: Final = 1000
"""Maximum number of rows that one statement changes."""


class Sweeper:
    """Sweeper of all jobs; it calls `ended` when it has ended some."""

    def __init__(
        self,
        pool: Pool,
        settings: JobsSettings,
        ended: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._ended = ended
        self._clock = clock
        self._pause = IdlePause(settings.interval_s)
        self._gone_since = dict[str, float]()
        self._failures = FailureLog("looking after jobs", "they stay as they are")

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
        await self.tell_of_gone_tasks()
        await self.find_lost()
        await self.prune()

    async def expire(self) -> bool:
        """End jobs whose deadline and grace period have passed without a result; return true if there were any."""
        grace_s, some = self._settings.deadline_grace_s, False
        while ids := await job_queue.expired_jobs(self._pool, grace_s, _AT_ONCE):
            await self._end(ids, too_late())
            some = True
        return some

    async def tell_of_gone_tasks(self) -> None:
        """End the jobs of tasks that were unregistered more than `unregistered_s` ago."""
        now = self._clock()
        gone = await job_queue.tasks_gone(self._pool)
        self._gone_since = {task: self._gone_since.get(task, now) for task in gone}
        for task, since in self._gone_since.items():
            if now - since < self._settings.unregistered_s:
                continue
            while ids := await job_queue.jobs_of_task(self._pool, task, _AT_ONCE):
                await self._end(ids, unregistered(task))

    async def find_lost(self) -> None:
        """Send the jobs again of which Kafka holds nothing any more."""
        lost = await job_queue.lost_jobs(self._pool, self._settings.lost_s, _AT_ONCE)
        if lost:
            await self.send_lost(lost)

    async def send_lost(self, lost: list[str]) -> None:
        """Send lost jobs again; end those without attempts or time left."""
        attempts = self._settings.max_attempts
        again = await job_queue.send_again(self._pool, lost, attempts, self._settings.retry_pause_s)
        log.warning("Kafka holds nothing more of %d jobs without an answer: sending %d again", len(lost), len(again))
        metrics.AGAIN.labels("lost").inc(len(again))
        await self._end(sorted({*lost} - {*again}), never_answered(attempts))

    async def prune(self) -> None:
        """Delete expired results, and then expired jobs."""
        settings = self._settings
        await self._prune("result", lambda: job_queue.prune_results(self._pool, settings.result_retention_s, _AT_ONCE))
        await self._prune("job", lambda: job_queue.prune_jobs(self._pool, settings.retention_s, _AT_ONCE))

    async def _prune(self, what: str, some: Callable[[], Awaitable[int]]) -> None:
        while count := await some():
            metrics.PRUNED.labels(what).inc(count)

    async def _end(self, ids: list[str], error: QueryError) -> None:
        ended = await job_queue.end_jobs(self._pool, [failed(job_id, error) for job_id in ids])
        metrics.ENDED.labels("failed").inc(len(ended))
        if ended:
            self._ended()
