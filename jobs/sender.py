"""Sends due jobs from Postgres to the topics of their tasks.

    due, locked -> sent to Kafka -> all acknowledged -> marked as running, committed

The record is written before the row is updated. If the process dies in between, the row is unchanged and another
process sends the job again under the same id. It is then computed twice, and its first result counts.

The transaction stays open until Kafka acknowledges, at most for the request timeout. A request to cancel such a job
waits for its end.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

from broker.kafka_types import KafkaError, RecordTooLarge, TopicClosed
from broker.producer import Producer
from jobs import metrics
from jobs.outcomes import failed, headers_of, too_late, unregistered
from jobs.wake_up import WakeUp
from process.failure_log import FailureLog
from process.signing import vouch
from schemas import headers as h
from schemas.errors import InvalidRequest, QueryError
from schemas.rows.jobs import DueJob
from schemas.topics import JOB_RESULTS
from store.errors import StoreUnavailable
from store.job_queue import sending_jobs
from store.pool import Pool

log = logging.getLogger(__name__)

_MAX_BYTES: Final = 16 * 1024 * 1024
"""Approximate maximum size of the jobs that are sent in one transaction."""
_PAUSE_S: Final = 2.0
"""Seconds after which a job that Kafka did not accept is sent again."""


class JobSender:
    """Sender of due jobs; `wake` triggers a poll at once."""

    def __init__(
        self, pool: Pool, producer: Producer, batch: int, interval_s: float, secret: bytes | None = None
    ) -> None:
        """Create a sender; `secret` signs queries of authenticated tenants for selectors that require signatures."""
        self._pool = pool
        self._producer = producer
        self._batch = batch
        self._secret = secret
        self._new = WakeUp(interval_s)
        self._failures = FailureLog("sending jobs", "they wait")

    def wake(self) -> None:
        """Poll at once: there are new jobs."""
        self._new.call()

    async def run(self) -> None:
        """Send due jobs until cancelled; poll when woken and periodically."""
        while True:
            if not await self._try_to_send():
                await self._new.wait(found=False)

    async def _try_to_send(self) -> bool:
        """Send some jobs; return true if there were any, so that more may be due."""
        try:
            some = await self.send_due() > 0
        except StoreUnavailable as error:
            self._failures.failed(error)
            return False
        self._failures.recovered()
        return some

    async def send_due(self) -> int:
        """Send due jobs, as many as fit into one transaction; return their number.

        Raises:
            StoreUnavailable: Postgres is unavailable; the jobs that were sent are still due.
        """
        async with sending_jobs(self._pool, self._batch, _MAX_BYTES) as sending:
            jobs = sending.jobs
            if not jobs:
                return 0
            late = {job.id: too_late() for job in jobs if job.left_ms is not None and job.left_ms <= 0}
            failures = await self._send([job for job in jobs if job.id not in late])
            final: dict[str, QueryError] = late | {
                job.id: error for job in jobs if (error := _final_error(job, failures)) is not None
            }
            waiting = failures.keys() - final.keys()
            if waiting:
                log.warning("%d jobs were not taken by Kafka: %r", len(waiting), next(iter(failures.values())))
                await sending.postponed(waiting, _PAUSE_S)
            await sending.ended([failed(job_id, error) for job_id, error in final.items()])
            sent = [job for job in jobs if job.id not in failures and job.id not in final]
            if sent:
                await sending.sent([job.id for job in sent])
        for task, count in Counter(job.task for job in sent).items():
            metrics.SENT.labels(task).inc(count)
        metrics.ENDED.labels("failed").inc(len(final))
        return len(jobs)

    async def _send(self, jobs: list[DueJob]) -> dict[str, BaseException]:
        """Send the queries of jobs; return the errors of failed sends by job id."""
        sent = [
            await self._producer.send(
                job.topic,
                job.request,
                key=job.id.encode(),
                headers=await query_headers(job, self._secret, self._producer.clock.now_ms()),
            )
            for job in jobs
        ]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        return {job.id: out for job, out in zip(jobs, outcomes, strict=True) if isinstance(out, BaseException)}


async def query_headers(job: DueJob, secret: bytes | None, at_ms: float) -> h.RawHeaders:
    """Return the headers of a job's query record, signed with `secret` if its tenant was authenticated."""
    headers = headers_of(job, JOB_RESULTS)
    if secret is not None and h.SIGNATURE in job.headers:
        headers.append(await vouch(secret, job.task, headers, job.request, at_ms))
    return headers


def _final_error(job: DueJob, failures: Mapping[str, BaseException]) -> QueryError | None:
    """Return the error of a job that can never be sent; None if it was sent or may be sent later.

    A missing topic may appear, as when a broker has just started; the sweeper finds out if the task is gone.
    """
    error = failures.get(job.id)
    if isinstance(error, TopicClosed):
        return unregistered(job.task)
    if isinstance(error, RecordTooLarge):
        return InvalidRequest(f"the query is larger than Kafka takes: {error}")
    if error is not None and not isinstance(error, KafkaError):
        raise error
    return None
