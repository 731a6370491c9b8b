"""Builds beside serving: executes steps of registrations whose results depend on the worker's hardware.

    request -> row in Postgres, written by every worker that reads it -> claimed by a free worker -> outcome -> report

Rules.
* A request is finished once its row is written, or once it is answered because no row can hold it. A free worker claims
  the oldest row. A busy worker therefore delays no request, and a step of a dead worker is started again by another
  worker, or by the same one after its restart.
* A step runs in a process of its own, with low priority and with limits of time and memory. It ends with the worker. A
  measurement first waits, up to a limit, until no online query is expected.
* A step whose process crashes is retried, and fails for good at the third crash. The same holds if its worker ends each
  time, or has a defect. An error that the step raises is its outcome at once.
* A worker that stops releases its step. A step whose outcome is not written is executed again, with the same result.
"""

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec

from broker.delivery.consumer import Consumer, Record
from broker.kafka.topics import ensure_topics
from broker.kafka.types import KafkaError
from process.backoff import Backoff
from process.cpus import BEHIND_SERVICES
from process.pauses import retry_until_reachable, wait_within
from registry.artifacts import ArtifactStore
from registry.builds.build import Build, BuildOutcome, BuildReport, BuildRequest, with_files
from registry.builds.remote_steps import build_topics
from registry.pipeline.isolation import StepCrashed, run_step
from registry.pipeline.measurement import ComputeOutputs, MeasureVariant
from registry.pipeline.step_process import STEP_ERRORS, StepLimits
from registry.plan import PlanVariants
from registry.step_runner import CheckedOutArtifacts, HardwareStep
from schemas import topics
from schemas.errors import InfaasError, InvalidRequest, ModelFailed, OperatorError
from schemas.rows.registrations import BUILDS_KEPT_S, BuildRow
from store.builds import (
    BUILD_CLAIMS,
    claim_build,
    count_open_builds,
    finish_build,
    forget_builds,
    put_build,
)
from store.errors import StoreConflict, StoreUnavailable
from workers.context import WorkerContext
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

MOST_ATTEMPTS: Final = 3
_RETRY_S: Final = 1.0
_BACKOFF: Final = Backoff(first_s=1.0, longest_s=1.0)
_POLL_S: Final = 0.2
_RELEASE_S: Final = 2.0
_QUEUED: Final = 100
_SHOWN: Final = 12
_STEP_ERRORS: Final = tuple(STEP_ERRORS.values())
_JSON_VALUE: Final = cast(type[Any], Any)
"""Type of a step's result: plain JSON values."""
T = TypeVar("T")


def may_build(settings: WorkerSettings, exchange: ArtifactStore) -> bool:
    """Return true if the worker is to do builds and the artifact exchange is writable."""
    if settings.builds and not exchange.is_writable:
        log.info("this worker does no builds, since the artifact store is read only")
    return settings.builds and exchange.is_writable


class Builder:
    """Builder of one worker; call `run`."""

    def __init__(self, context: WorkerContext, exchange: ArtifactStore) -> None:
        settings = context.settings
        self._context = context
        self._exchange = exchange
        self._hardware = settings.hardware.value
        self._worker = settings.worker
        self._folder = settings.home / "workers" / f"{settings.worker}.builds"
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Store requests and do builds until cancelled. An error here never stops the worker from serving."""
        while True:
            try:
                await self._serve()
            except* (InfaasError, KafkaError) as errors:
                log.warning("builds wait: %s", errors.exceptions[0])
            except* Exception:
                log.exception("defect in the builder; restarting it")
            await asyncio.sleep(_RETRY_S)

    async def _serve(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)  # left by the previous process
        await _until_reachable(lambda: ensure_topics(self._context.kafka, build_topics(self._hardware)))
        async with (
            Consumer(
                self._context.kafka,
                f"{self._worker}-builder",
                group=topics.build_group(self._hardware),
                max_in_flight=_QUEUED,
                memory=self._context.record_memory,
                over=self._context.offline,
            ) as requests,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._store_requests(requests), name="store build requests")
            tasks.create_task(self._work(), name="execute builds")
            # Read by every worker, without a group protocol: the claim decides.
            await requests.assign(topics.build_topic(self._hardware), [0])

    async def _store_requests(self, requests: Consumer) -> None:
        while True:
            for record in await requests.poll():
                await self._store_request(record)
                requests.done(record)
            self._wake.set()

    async def _store_request(self, record: Record) -> None:
        try:
            request = msgspec.json.decode(record.value or b"", type=BuildRequest)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            log.warning("ignoring invalid build request in %s at %d: %s", record.topic, record.offset, error)
            return
        row = (request.id, self._hardware, request.build, request.asked_ms)
        try:
            await _until_reachable(lambda: put_build(self._context.pool, *row))
        except StoreConflict as error:  # every later delivery would fail alike
            log.warning("refusing a build request in %s at %d: %s", record.topic, record.offset, error)
            await self._refuse(request, error)

    async def _refuse(self, request: BuildRequest, reason: StoreConflict) -> None:
        """Answer a request that no row can hold with a row without its step, so that its sender does not wait."""
        error = InvalidRequest(f"the request contains a name that Postgres cannot store: rename it ({reason})")
        outcome = msgspec.to_builtins(BuildOutcome.of_error(error))

        async def put() -> None:
            async with self._context.pool.transaction() as session:
                await put_build(session, request.id, self._hardware, {}, request.asked_ms)
                await finish_build(session, request.id, outcome)

        with suppress(StoreConflict):  # no row can hold its id either, so the request is not ours
            await _until_reachable(put)
            await self._report(BuildReport(build=request.id, worker=self._worker, ended=True))

    async def _work(self) -> None:
        pool, silent_s = self._context.pool, self._context.settings.lease_ttl_s
        while True:
            self._wake.clear()
            row = await _until_reachable(lambda: claim_build(pool, self._hardware, self._worker, silent_s))
            if row is not None:
                await self._execute(row)
                await _until_reachable(lambda: forget_builds(pool, BUILDS_KEPT_S))
                await asyncio.to_thread(self._exchange.discard_older, BUILDS_KEPT_S)
            else:
                # A worker that dies sends no notification: look for its claims again when they may have expired.
                others = await _until_reachable(lambda: count_open_builds(pool, self._hardware))
                await wait_within(silent_s if others else None, self._wake)

    # -- one build -----------------------------------------------------------------------------------------------------

    async def _execute(self, row: BuildRow) -> None:
        await self._report(BuildReport(build=row.id, worker=self._worker))
        async with asyncio.TaskGroup() as tasks:
            attempt = tasks.create_task(self._attempt(row), name="build")
            try:
                while not (await asyncio.wait({attempt}, timeout=self._context.settings.lease_renew_s))[0]:
                    if not await self._is_ours(row):
                        attempt.cancel()
            except asyncio.CancelledError:
                attempt.cancel()
                await asyncio.wait({attempt})
                await self._release(row)
                raise
        outcome = None if attempt.cancelled() else attempt.result()
        if outcome is not None:
            await self._store_outcome(row, outcome)
            await self._report(BuildReport(build=row.id, worker=self._worker, ended=True))

    async def _store_outcome(self, row: BuildRow, outcome: BuildOutcome) -> None:
        ended = msgspec.to_builtins(outcome)
        try:
            await _until_reachable(lambda: finish_build(self._context.pool, row.id, ended))
        except StoreConflict as error:  # the outcome holds a value that Postgres cannot store
            ended = msgspec.to_builtins(BuildOutcome.of_error(ModelFailed(f"its outcome cannot be stored: {error}")))
            await _until_reachable(lambda: finish_build(self._context.pool, row.id, ended))

    async def _is_ours(self, row: BuildRow) -> bool:
        """Renew the claim. Returns false if it expired and another worker has claimed the build."""
        try:
            if await BUILD_CLAIMS.renew(self._context.pool, row):
                return True
        except StoreUnavailable as error:  # without Postgres nobody else can claim it either
            log.warning("cannot renew the claim of build %s: %s", row.id[:_SHOWN], error)
            return True
        log.warning("build %s was claimed by another worker", row.id[:_SHOWN])
        return False

    async def _release(self, row: BuildRow) -> None:
        try:
            async with asyncio.timeout(_RELEASE_S):
                await BUILD_CLAIMS.release(self._context.pool, row)
        except (StoreUnavailable, TimeoutError):  # the claim expires by itself
            log.warning("build %s was not released; its claim will expire", row.id[:_SHOWN])

    async def _attempt(self, row: BuildRow) -> BuildOutcome | None:
        """Run a step. Returns None if another attempt is needed: its process crashed, or this worker has a defect."""
        if row.attempts > MOST_ATTEMPTS:
            why = row.reason or "its worker ended at each attempt"
            return BuildOutcome.of_error(ModelFailed(f"given up after {MOST_ATTEMPTS} attempts: {why}"))
        try:
            step = Build.decoded(row.step).step
        except msgspec.ValidationError as error:
            return BuildOutcome.of_error(OperatorError(f"this worker's version does not know such a step: {error}"))
        try:
            return await self._outcome(step)
        except StepCrashed as error:
            return await self._release_for_retry(row, str(error))
        except _STEP_ERRORS as error:
            return BuildOutcome.of_error(error)
        except OSError as error:
            reason = f"{error.filename or 'a file'}: {error.strerror or error}"
            return BuildOutcome.of_error(OperatorError(reason))
        except Exception as error:
            log.exception("defect in the builder")
            return await self._release_for_retry(row, f"a defect of {self._worker}: {error!r}")

    async def _release_for_retry(self, row: BuildRow, reason: str) -> None:
        log.warning("build %s, attempt %d: %s", row.id[:_SHOWN], row.attempts, reason)
        await _until_reachable(lambda: BUILD_CLAIMS.release(self._context.pool, row, reason))

    async def _outcome(self, step: HardwareStep) -> BuildOutcome:
        try:
            async with CheckedOutArtifacts(self._context.artifacts) as held:
                with ExitStack() as files:
                    value = await self._run(await self._with_local_files(step, held, files))
            return BuildOutcome(value=value, files=await asyncio.to_thread(self._keep_written))
        finally:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _run(self, step: HardwareStep) -> Any:
        if isinstance(step, PlanVariants):
            return msgspec.to_builtins(await asyncio.to_thread(step.run), enc_hook=str)
        if isinstance(step, MeasureVariant):
            await self._until_quiet()
        settings = self._context.settings
        limits = StepLimits(
            timeout_s=settings.build_timeout_s,
            memory_bytes=settings.build_memory_bytes,
            nice=BEHIND_SERVICES,
            cpus=settings.cpus,
        )
        return await run_step(step, _JSON_VALUE, limits)

    async def _until_quiet(self) -> None:
        """Wait until no online query is expected, up to `build_patience_s`: queries would disturb the measurement."""
        executor, until_s = self._context.executor, time.monotonic() + self._context.settings.build_patience_s
        while executor.expects_online(now_s := time.monotonic()) and now_s < until_s:  # noqa: ASYNC110 - no event
            await asyncio.sleep(_POLL_S)

    # -- files ---------------------------------------------------------------------------------------------------------

    async def _with_local_files(self, step: HardwareStep, held: CheckedOutArtifacts, files: ExitStack) -> HardwareStep:
        """Return the step with the paths of its files on this machine, valid while `held` and `files` are open."""
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        loads = isinstance(step, MeasureVariant | ComputeOutputs)
        artifact = await held.variant(step.runtime, step.artifact.name) if loads else None

        def read(file: Path) -> Path:
            if artifact is not None and file.name == artifact.name:
                return artifact
            return files.enter_context(self._store_of(file.name).held(file.name)).absolute()

        return await asyncio.to_thread(with_files, step, read, lambda file: (self._folder / file.name).absolute())

    def _store_of(self, sha256: str) -> ArtifactStore:
        for store in (self._context.artifacts, self._exchange):
            if store.has(sha256):
                return store
        raise OperatorError(
            f"the file {sha256[:_SHOWN]}... is missing: INFAAS_ARTIFACTS must name the same place for the worker and "
            "the registrar"
        )

    def _keep_written(self) -> dict[str, str]:
        return {file.name: self._exchange.put(file) for file in self._folder.glob("*.file")}

    async def _report(self, report: BuildReport) -> None:
        try:
            await self._context.producer.send_and_wait(
                topics.BUILD_REPORTS, msgspec.json.encode(report), key=report.build.encode()
            )
        except KafkaError as error:  # the requester also reads the row
            log.warning("a build report was lost: %r", error)


async def _until_reachable(call: Callable[[], Awaitable[T]]) -> T:
    """Call until Postgres or Kafka answers; `StoreConflict`, which cannot pass, is raised."""
    return await retry_until_reachable(
        call,
        (StoreUnavailable, OperatorError),
        _BACKOFF,
        may_pass=lambda error: not isinstance(error, StoreConflict),
        failed=lambda error: log.warning("builds wait: %s", error),
    )
