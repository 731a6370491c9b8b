"""Writes results of jobs from the result topic to Postgres, in batches.

The offset of a record is committed once its result is stored or is of no use. Another process may read the record again
before that; its write is idempotent. A job has one end, the first result; later results are dropped and counted. A
result without the correlation of the job's query is dropped, too: the id of a job is not enough to answer it.

While Postgres is unavailable, results stay in Kafka; at most `max_in_flight` records are read.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from broker.delivery.consumer import Consumer, Record
from jobs import metrics
from jobs.outcomes import JobAnswer, read_answer
from process.failure_log import FailureLog
from schemas.headers import as_text
from store.errors import StoreUnavailable
from store.job_queue import end_jobs, send_again
from store.pool import Pool

log = logging.getLogger(__name__)

_READ: Final = 1000
_GATHER_S: Final = 0.02
"""Seconds for which results are collected before a write: a statement takes as long for many as for one."""
_PAUSE_S: Final = 0.1, 2.0
"""First and maximum pause in seconds between attempts to write."""


class ResultWriter:
    """Writer of results; it calls `ended` when jobs have ended."""

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
            await self._write_patiently([answer for record in records if (answer := _read(record)) is not None])
            for record in records:
                self._consumer.done(record)
            await asyncio.sleep(_GATHER_S)

    async def _write_patiently(self, answers: Sequence[JobAnswer]) -> None:
        """Write results, and retry until Postgres is available."""
        pause_s = _PAUSE_S[0]
        while True:
            try:
                await self.write(answers)
            except StoreUnavailable as error:
                self._failures.failed(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S[1])
            else:
                self._failures.recovered()
                return

    async def write(self, answers: Sequence[JobAnswer]) -> None:
        """Write results; idempotent.

        Raises:
            StoreUnavailable: Postgres is unavailable; some results may be written.
        """
        passing = [answer.end for answer in answers if answer.may_pass]
        again = set[str]()
        if passing:
            ids, correlations = [end.id for end in passing], [end.correlation for end in passing]
            again.update(await send_again(self._pool, ids, self._max_attempts, self._retry_pause_s, correlations))
            metrics.AGAIN.labels("error").inc(len(again))
        ends = [answer.end for answer in answers if not (answer.may_pass and answer.end.id in again)]
        ended = set(await end_jobs(self._pool, ends))
        for end in ends:
            if end.id in ended:
                metrics.ENDED.labels(end.state).inc()
        metrics.DROPPED.labels("ended").inc(len(ends) - len(ended))
        if ended:
            self._ended()


def _read(record: Record) -> JobAnswer | None:
    """Read a record; return None and count it as dropped if it is no valid result."""
    try:
        return read_answer(as_text(record.headers), record.value or b"")
    except (KeyError, ValueError) as error:
        metrics.DROPPED.labels("invalid").inc()
        log.warning("%s %d/%d is no result: %r", record.topic, record.partition, record.offset, error)
        return None
