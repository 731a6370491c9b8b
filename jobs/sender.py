"""Sends jobs that are due: from Postgres to the topic of their task.

    due, locked -> sent to Kafka -> all acknowledged -> noted as running, committed

The record is written before the row says so. Whoever is killed between the two leaves the row as it was, and another
sends the job again under the same id: then it is computed twice, and its first result counts.

A transaction is open while Kafka acknowledges, for the request timeout at most; who cancels such a job waits for it.
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
"""About the most bytes of the jobs that are sent in one transaction."""
_PAUSE_S: Final = 2.0
"""Seconds after which is sent again what Kafka did not take."""


class JobSender:
    """Sender of the jobs that are due; `wake` has it look at once."""

    def __init__(
        self, pool: Pool, producer: Producer, batch: int, interval_s: float, secret: bytes | None = None
    ) -> None:
        """`secret` signs the queries of tenants that have authenticated, where selectors believe no name alone."""
        self._pool = pool
        self._producer = producer
        self._batch = batch
        self._secret = secret
        self._new = WakeUp(interval_s)
        self._failures = FailureLog("sending jobs", "they wait")

    def wake(self) -> None:
        """Look at once: there are new jobs."""
        self._new.call()

    async def run(self) -> None:
        """Send what is due, when told and now and then, until cancelled."""
        while True:
            if not await self._try_to_send():
                await self._new.wait(found=False)

    async def _try_to_send(self) -> bool:
        """Send some; returns whether there were any, so that more may be due."""
        try:
            some = await self.send_due() > 0
        except StoreUnavailable as error:
            self._failures.failed(error)
            return False
        self._failures.recovered()
        return some

    async def send_due(self) -> int:
        """Send what is due, as much as fits into one transaction; returns how many jobs that were.

        Raises:
            StoreUnavailable: Postgres is away; what was sent is due still.
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
        """Write the queries of jobs; returns why those were not that were not."""
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
    """Headers of the record that asks a job's query, signed by `secret` if its tenant has authenticated."""
    headers = headers_of(job, JOB_RESULTS)
    if secret is not None and h.SIGNATURE in job.headers:
        headers.append(await vouch(secret, job.task, headers, job.request, at_ms))
    return headers


def _final_error(job: DueJob, failures: Mapping[str, BaseException]) -> QueryError | None:
    """Error of a job that could not be sent and never can; None where it was, or may be later.

    A topic that is not there may be soon, as where a broker has just started: the sweeper knows if its task is gone.
    """
    error = failures.get(job.id)
    if isinstance(error, TopicClosed):
        return unregistered(job.task)
    if isinstance(error, RecordTooLarge):
        return InvalidRequest(f"the query is larger than Kafka takes: {error}")
    if error is not None and not isinstance(error, KafkaError):
        raise error
    return None
