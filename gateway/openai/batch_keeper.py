"""Background work of batches: validates their files, stores their lines as jobs, and writes the results to files.

    validating -> in_progress: lines become jobs, some at a time -> all jobs have ended: output files -> completed
                                                                                                         expired
                                                                                                         cancelled
Each step locks the batch's row and commits its progress with it, so any gateway continues after another was killed. A
step that is repeated changes nothing: a line becomes one job by its idempotency key, and a file's name is its content.
So every line of the input is in one of the two output files, once, because a job has one end.

The limit of unfinished jobs and the quotas of keys apply to lines as to jobs; a batch waits where a job is refused.
Lines are jobs of the mode offline, whose deadline is the end of the completion window.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from math import inf
from typing import Final

from msgspec.structs import replace

from gateway.http.job_requests import JobOptions, new_id, new_job_ids, read_job
from gateway.jobs.submission import JobWriter
from gateway.limits.quotas import QuotaMeters
from gateway.model_directory import ModelDirectory
from gateway.openai.batch_files import (
    LINES_AT_ONCE,
    BatchOutput,
    CheckedFile,
    InputLines,
    check_file,
    read_lines,
    writing_output,
)
from gateway.openai.lines import (
    answered_line,
    failed_line,
    line_headers,
    line_key,
    read_line,
    read_query,
    unsent_line,
)
from process.outages import FailureLog
from process.pauses import WakeUp
from process.security.access import tenant_of
from process.threads import in_thread
from registry.artifacts import ArtifactStore
from schemas import headers as h
from schemas.access import ANYONE, Principal
from schemas.errors import Internal, OperatorError, QueryError, QuotaExceeded
from schemas.jobs import NewJob
from schemas.openai import BATCH_OUTPUT, BatchStatus
from schemas.rows.batches import BatchRow
from store import batches as stored
from store.batches import FailedLine
from store.errors import StoreUnavailable
from store.pool import DatabaseSession, Pool

log = logging.getLogger(__name__)

_INTERVAL_S: Final = 0.5
_TIDY_S: Final = 60.0
_AT_ONCE: Final = 20
"""Lines that are read without a pause of the event loop, which takes a millisecond or two."""


class BatchKeeper:
    """Keeper of all batches; `wake` triggers a poll at once.

    Args:
        pool: connections to Postgres.
        writer: writer of jobs.
        models: names that clients may use as models.
        store: returns the store of uploads.
        now_ns: present time of the broker's clock.
        most_line_bytes: maximum size of a line.
        kept_s: seconds for which output files and ended batches are kept.
        quotas: quotas of principals, which lines use as jobs do.
    """

    def __init__(
        self,
        pool: Pool,
        writer: JobWriter,
        models: ModelDirectory,
        store: Callable[[], ArtifactStore],
        now_ns: Callable[[], int],
        most_line_bytes: int,
        kept_s: float,
        quotas: QuotaMeters,
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._models = models
        self._store = store
        self._now_ns = now_ns
        self._most_line_bytes = most_line_bytes
        self._kept_s = kept_s
        self._quotas = quotas
        self._refused = False
        """True if a quota delays a batch, so that the next poll comes soon."""
        self._new = WakeUp(_INTERVAL_S)
        self._failures = FailureLog("processing batches", "they wait")

    def wake(self) -> None:
        """Poll at once: there is a new batch."""
        self._new.call()

    async def run(self) -> None:
        """Process batches until cancelled; poll when woken and periodically."""
        clock, tidied_s = asyncio.get_running_loop().time, -inf
        while True:
            if not await self._try_step(self.step):
                if clock() - tidied_s > _TIDY_S:
                    await self._try_step(self.tidy)
                    tidied_s = clock()
                await self._new.wait(found=self._refused)
                self._refused = False

    async def _try_step(self, step: Callable[[], Awaitable[bool]]) -> bool:
        try:
            found = await step()
        except (StoreUnavailable, OperatorError, QueryError) as error:
            self._failures.failed(error)
            return False
        except Exception:  # a defect must end neither the gateway nor other batches
            log.exception("a batch cannot proceed; others do")
            return False
        self._failures.recovered()
        return found

    async def step(self) -> bool:
        """Take one batch a step further; return true if there was one.

        Raises:
            StoreUnavailable: Postgres is unavailable; the batch is as before.
            OperatorError: the store of uploads is unavailable.
            QueryError: too many jobs are unfinished.
        """
        batch: BatchRow | None = None
        try:
            async with stored.claiming_batch(self._pool) as (session, batch):
                if batch is None:
                    return False
                await self._advance(session, batch)
        except StoreUnavailable:
            raise
        except Exception as error:
            if batch is not None:
                await stored.pass_batch(self._pool, batch.id)  # others must not wait for it
            if not isinstance(error, QuotaExceeded):
                raise
            self._refused = True
            return False
        return True

    async def _advance(self, session: DatabaseSession, batch: BatchRow) -> None:
        if batch.status is BatchStatus.VALIDATING:
            await self._validate(session, batch)
        elif batch.status is BatchStatus.IN_PROGRESS and batch.stored < batch.total and batch.left_s > 0:
            await self._store_lines(session, batch)
        else:
            await self._finish(session, batch)

    async def tidy(self) -> bool:
        """Delete expired files, and batches that ended long ago; return true if there were some.

        Raises:
            StoreUnavailable: Postgres is unavailable.
        """
        files = await stored.expire_files(self._pool)
        return files + await stored.prune_batches(self._pool, self._kept_s) > 0

    # -- from lines to jobs --------------------------------------------------------------------------------------------
    async def _validate(self, session: DatabaseSession, batch: BatchRow) -> None:
        found = await asyncio.to_thread(self._check, batch)
        if found.errors:
            await stored.fail_batch(session, batch.id, found.errors)
        else:
            await stored.start_batch(session, batch.id, found.total)

    def _check(self, batch: BatchRow) -> CheckedFile:
        with self._store().held(batch.sha256) as file:
            return check_file(file, batch.endpoint, self._most_line_bytes)

    async def _store_lines(self, session: DatabaseSession, batch: BatchRow) -> None:
        principal = _caller(batch.caller)
        meter = self._quotas.enter(principal, time.monotonic())
        try:
            found = await asyncio.to_thread(self._read, batch, batch.position, lines_at_once(principal))
            jobs, failures = await self._jobs(batch, principal, found.lines)
            if jobs:
                await self._writer.put(jobs)
            if meter is not None:
                meter.charge(sum(int(job.headers[h.BATCH]) for job in jobs) - 1)
        finally:
            if meter is not None:
                meter.leave()
        if failures:
            await stored.put_failed_lines(session, batch, failures)
        await stored.advance_batch(session, batch.id, batch.stored + len(found.lines), found.position)

    async def _jobs(
        self, batch: BatchRow, principal: Principal, lines: Sequence[bytes]
    ) -> tuple[list[NewJob], list[FailedLine]]:
        """Return the next lines of a batch as jobs, and as failed lines if they are no valid queries."""
        jobs, failures = list[NewJob](), list[FailedLine]()
        for place, (line, job_id) in enumerate(zip(lines, new_job_ids(len(lines)), strict=True)):
            made = self._job(batch, principal, batch.stored + place, line, job_id)
            if isinstance(made, NewJob):
                jobs.append(made)
            else:
                failures.append(made)
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return jobs, failures

    def _read(self, batch: BatchRow, position: int, most: int = LINES_AT_ONCE) -> InputLines:
        with self._store().held(batch.sha256) as file:
            return read_lines(file, position, self._most_line_bytes, most)

    def _job(self, batch: BatchRow, principal: Principal, number: int, line: bytes, job_id: str) -> NewJob | FailedLine:
        read = read_line(line, batch.endpoint)  # it was validated
        try:
            tenant = tenant_of(principal) if principal is not ANYONE else batch.tenant or None
            models = self._models.seen_by(tenant).of_tasks(principal.tasks)
            model, message, reply = read_query(models, read)
            options = JobOptions(principal, None, batch.tenant, None, None)
            headers = line_headers(batch, message)
            job = read_job(model, headers, message.value, job_id, options, self._now_ns())
        except QueryError as error:
            return failed_line(job_id, batch.id, number, read, error)
        except Exception:  # a defect must not hold up the other lines: it would come again at each step
            log.exception("line %d of batch %s cannot become a job", number, batch.id)
            return failed_line(job_id, batch.id, number, read, Internal())
        key = line_key(batch.id, number)
        return replace(job, batch=batch.id, line=reply, idempotency_key=key, fingerprint=sha256(line).digest())

    # -- from results to files -----------------------------------------------------------------------------------------
    async def _finish(self, session: DatabaseSession, batch: BatchRow) -> None:
        if await stored.has_open_lines(session, batch.id):
            return  # another gateway stored them after this one had looked for the batch
        began, tenant = datetime.now(UTC), batch.tenant
        async with in_thread(writing_output(self._store(), batch.id)) as output:
            await self._write_results(session, batch.id, output)
            await self._write_unsent(session, batch, output)
            files = output.files
            for file in files:
                if file.lines:
                    await stored.keep_upload(self._pool, tenant, file.sha256, file.bytes)
            await asyncio.to_thread(output.keep)
        ids = list[str | None]()
        for kind, file in zip(("output", "errors"), files, strict=True):
            ids.append(new_id("file-") if file.lines else None)
            if ids[-1] is not None:
                name = f"{batch.id}_{kind}.jsonl"
                await stored.put_file(session, ids[-1], tenant, name, BATCH_OUTPUT, file.sha256, self._kept_s)
        status = BatchStatus.EXPIRED if output.expired else BatchStatus.COMPLETED
        if batch.status is BatchStatus.CANCELLING:
            status = BatchStatus.CANCELLED
        counts = files[0].lines, files[1].lines
        await stored.end_batch(session, batch.id, status, counts, (ids[0], ids[1]), began)

    async def _write_results(self, session: DatabaseSession, batch_id: str, output: BatchOutput) -> None:
        after = ""
        while results := await stored.line_results(session, batch_id, after):
            await asyncio.to_thread(output.write, map(answered_line, results))
            after = results[-1].id

    async def _write_unsent(self, session: DatabaseSession, batch: BatchRow, output: BatchOutput) -> None:
        """Write errors for the lines that never became jobs, because the window ended or the batch was cancelled.

        The first of them may be jobs: a gateway that was killed did not record that.
        """
        number, position = batch.stored, batch.position
        while number < batch.total:
            found = await asyncio.to_thread(self._read, batch, position)
            keys = [line_key(batch.id, number + place) for place in range(len(found.lines))]
            known = await stored.known_keys(session, batch.id, keys)
            lines = [
                unsent_line(batch, number + place, line)
                for place, (key, line) in enumerate(zip(keys, found.lines, strict=True))
                if key not in known
            ]
            await asyncio.to_thread(output.write, iter(lines))
            number, position = number + len(found.lines), found.position


def _caller(principal: Principal) -> Principal:
    """Return the stored principal of a batch; authentication was off if it is anyone."""
    return ANYONE if principal.name == ANYONE.name else principal


def lines_at_once(principal: Principal) -> int:
    """Return the number of lines that are stored in a step: at most those of a second of the principal's rate.

    More would leave a debt for which its other queries are refused.
    """
    rate = None if principal.quota is None else principal.quota.per_second
    return LINES_AT_ONCE if rate is None else min(max(int(rate), 1), LINES_AT_ONCE)


@asynccontextmanager
async def keeping_batches(keeper: BatchKeeper) -> AsyncGenerator[None]:
    """Process batches while the context is open."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(keeper.run(), name="batches")
        try:
            yield
        finally:
            running.cancel()
