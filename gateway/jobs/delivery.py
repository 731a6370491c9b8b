"""Sends due jobs from Postgres to the topics of their tasks, and stores their results.

    due, locked -> sent to Kafka -> all acknowledged -> marked as running, committed
    result read -> stored in Postgres -> offset committed

The record is written before the row is updated. If the process dies in between, the row is unchanged and another
process sends the job again under the same id. It is then computed twice, and its first result counts. The transaction
stays open until Kafka acknowledges, at most for the request timeout. A request to cancel such a job waits for its end.

The offset of a result is committed once it is stored or is of no use. Another process may read the record again before
that; its write is idempotent. A job has one end, the first result; later results are dropped and counted. A result
without the correlation of the job's query is dropped, too: the id of a job is not enough to answer it. While Postgres
is unavailable, results stay in Kafka; at most `max_in_flight` records are read.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from broker.delivery.consumer import Consumer, Record
from broker.kafka.types import KafkaError, RecordTooLarge, TopicClosed
from broker.producing.producer import Producer
from gateway.jobs import metrics
from gateway.jobs.outcomes import failed, headers_of, read_end, too_late, unregistered
from process.backoff import Backoff
from process.outages import FailureLog
from process.pauses import WakeUp, retry_until_reachable
from process.signing import sign_headers
from schemas import headers as h
from schemas.errors import InvalidRequest, QueryError
from schemas.jobs import DueJob, JobEnd
from schemas.topics import JOB_RESULTS
from store.errors import StoreUnavailable
from store.jobs import claiming_due_jobs, end_jobs, mark_sent, postpone_jobs, retry_jobs
from store.pool import Pool

log = logging.getLogger(__name__)

_MAX_BYTES: Final = 16 * 1024 * 1024
"""Approximate maximum size of the jobs that are sent in one transaction."""
_POSTPONED_S: Final = 2.0
"""Seconds after which a job that Kafka did not accept is sent again."""
_READ: Final = 1000
_GATHER_S: Final = 0.02
"""Seconds for which results are collected before a write: a statement takes as long for many as for one."""
_WRITE_BACKOFF: Final = Backoff(0.1, 2.0)


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
        async with claiming_due_jobs(self._pool, self._batch, _MAX_BYTES) as (session, jobs):
            if not jobs:
                return 0
            late = {job.id: too_late() for job in jobs if job.left_ms is not None and job.left_ms <= 0}
            failures = await self._send([job for job in jobs if job.id not in late])
            final: dict[str, QueryError] = late | {
                job.id: error for job in jobs if (error := _final_error(job, failures)) is not None
            }
            waiting = failures.keys() - final.keys()
            if waiting:
                log.warning("Kafka did not accept %d jobs: %r", len(waiting), next(iter(failures.values())))
                await postpone_jobs(session, waiting, _POSTPONED_S)
            await end_jobs(session, [failed(job_id, error) for job_id, error in final.items()])
            sent = [job for job in jobs if job.id not in failures and job.id not in final]
            if sent:
                await mark_sent(session, [job.id for job in sent])
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
        headers.append(await sign_headers(secret, job.task, headers, job.request, at_ms))
    return headers


def _final_error(job: DueJob, failures: Mapping[str, BaseException]) -> QueryError | None:
    """Return the error of a job that can never be sent; None if it was sent or may be sent later.

    A missing topic may appear, as when a broker has just started; the cleanup finds out if the task is gone.
    """
    error = failures.get(job.id)
    if isinstance(error, TopicClosed):
        return unregistered(job.task)
    if isinstance(error, RecordTooLarge):
        return InvalidRequest(f"the query is larger than Kafka accepts: {error}")
    if error is not None and not isinstance(error, KafkaError):
        raise error
    return None


class ResultWriter:
    """Writer of results, in batches; it calls `ended` when jobs have ended."""

    def __init__(
        self, pool: Pool, consumer: Consumer, max_attempts: int, retry_pause_s: float, ended: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._consumer = consumer
        self._max_attempts = max_attempts
        self._retry_pause_s = retry_pause_s
        self._ended = ended
        self._failures = FailureLog("writing results of jobs", "they wait in Kafka")

    async def run(self) -> None:
        """Read and write results until cancelled."""
        while True:
            records = await self._consumer.poll(_READ)
            ends = [end for record in records if (end := _read(record)) is not None]
            await retry_until_reachable(
                partial(self.write, ends), StoreUnavailable, _WRITE_BACKOFF, failed=self._failures.failed
            )
            self._failures.recovered()
            for record in records:
                self._consumer.done(record)
            await asyncio.sleep(_GATHER_S)

    async def write(self, ends: Sequence[JobEnd]) -> None:
        """Write results; idempotent.

        Raises:
            StoreUnavailable: Postgres is unavailable; some results may be written.
        """
        retryable = [end for end in ends if end.retryable]
        retried = set[str]()
        if retryable:
            ids, correlations = [end.id for end in retryable], [end.correlation for end in retryable]
            retried.update(await retry_jobs(self._pool, ids, self._max_attempts, self._retry_pause_s, correlations))
            metrics.RETRIES.labels("error").inc(len(retried))
        final = [end for end in ends if not (end.retryable and end.id in retried)]
        ended = set(await end_jobs(self._pool, final))
        for end in final:
            if end.id in ended:
                metrics.ENDED.labels(end.state).inc()
        metrics.DROPPED.labels("ended").inc(len(final) - len(ended))
        if ended:
            self._ended()


def _read(record: Record) -> JobEnd | None:
    """Read a record; return None and count it as dropped if it is no valid result."""
    try:
        return read_end(h.as_text(record.headers), record.value or b"")
    except (KeyError, ValueError) as error:
        metrics.DROPPED.labels("invalid").inc()
        log.warning("%s %d/%d is no result: %r", record.topic, record.partition, record.offset, error)
        return None
