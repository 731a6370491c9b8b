"""Runs steps on workers of their hardware: requests them over Kafka and reads their outcomes from the database.

Rules:
* A step is not repeated: a step of an interrupted registration is found by its content. A failed step is requested
  again, since the cause may be gone.
* Files are named by content. They pass through the artifact store, and through an exchange beside it for temporary
  files.
* A report only wakes a waiting caller; the row in the database decides. So reports may be lost, and a lost request is
  sent again.
* A missing worker is reported before anything is requested. A worker that restarts is waited for.
"""

import asyncio
import logging
import os
import shutil
import socket
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from uuid import uuid4

import msgspec

from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import KafkaError
from broker.producing.producer import Producer
from process.pauses import wait_within
from registry.artifacts import ArtifactStore, sha256_of
from registry.builds.build import Build, BuildOutcome, BuildReport, BuildRequest, with_files
from registry.plan import PlanVariants
from registry.step_runner import HardwareStep, Show
from schemas import topics
from schemas.errors import OperatorError
from schemas.hardware import Hardware
from schemas.rows.registrations import BUILDS_KEPT_S, BuildRow
from store.builds import get_build
from store.placement import list_workers
from store.pool import Pool
from store.samples import present_s

_KEPT_MS: Final = 1000 * BUILDS_KEPT_S
_CHECK_S: Final = 5.0
_LOOK_S: Final = 1.0
_GRACE_S: Final = 30.0
"""Seconds that a vanished worker has to start again."""
_BY: Final = f"{socket.gethostname()}-{os.getpid()}"
T = TypeVar("T")
log = logging.getLogger(__name__)


class NoWorker(OperatorError):
    """No worker of a hardware type executes builds."""

    def __init__(self, hardware: str) -> None:
        number = 2 if hardware == Hardware.CPU else 0
        super().__init__(
            f"there is no worker of {hardware} to make and measure variants: start one, e.g. `infaas up --worker "
            f"{hardware}:{number}`, or wait for one by `--if-no-worker wait`, or use this machine by `--local`"
        )


async def has_builder(pool: Pool, hardware: str) -> bool:
    """Return true if a live worker of a hardware type executes builds."""
    return any(row.hardware == hardware and row.alive and row.builds for row in await list_workers(pool))


def build_topics(hardware: str) -> list[TopicSpec]:
    """Return the topics of requests for a hardware type, and of reports."""
    return [
        TopicSpec(topics.build_topic(hardware), retention_ms=_KEPT_MS),
        TopicSpec(topics.BUILD_REPORTS, retention_ms=_KEPT_MS),
    ]


class _Wait(NamedTuple):
    """A caller that waits for a build."""

    show: Show
    news: asyncio.Event


class RemoteSteps:
    """Runner of steps on the workers of a system; see `remote_steps`."""

    def __init__(
        self, pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, exchange: ArtifactStore, producer: Producer,
        *, again: bool, wait: bool,
    ) -> None:  # fmt: skip
        self._pool = pool
        self._kafka = kafka
        self._artifacts = artifacts
        self._exchange = exchange
        self._producer = producer
        self._opened = uuid4().hex
        self._run = self._opened if again else ""
        self._wait = wait
        self._offered: dict[tuple[Path, int, int], str] = {}
        """SHA-256 of each file that workers can fetch, by its path, modification time and size."""
        self._waits: defaultdict[str, list[_Wait]] = defaultdict(list)
        """Callers by build; registrations at once may need the same one."""

    async def run(self, step: HardwareStep, kind: type[T], show: Show) -> T:
        """Let a worker run a step, and return its result.

        Raises:
            NoWorker: there is no worker of its hardware.
            InvalidRequest, OperatorError, NotApplicable, ModelFailed: errors of the step, of a service, or of a file
            that the worker and this process do not both reach.
        """
        written: dict[str, Path] = {}
        build = await asyncio.to_thread(self._build, step, written)
        row = await self._known(build) or await self._ask(step, build, show)
        outcome = msgspec.convert(row.outcome, BuildOutcome)
        try:
            await asyncio.to_thread(self._fetch, outcome.files, written)
        except OperatorError:  # the files of an earlier run were deleted
            row = await self._ask(step, build, show)
            outcome = msgspec.convert(row.outcome, BuildOutcome)
            await asyncio.to_thread(self._fetch, outcome.files, written)
        return outcome.result(kind, row.worker)

    # -- requests ------------------------------------------------------------------------------------------------------

    async def _known(self, build: Build) -> BuildRow | None:
        """Return the build if it was executed without an error."""
        row = await get_build(self._pool, build.id)
        return row if row is not None and row.outcome is not None and not row.outcome.get("error") else None

    async def _ask(self, step: HardwareStep, build: Build, show: Show) -> BuildRow:
        """Request the build, and wait for its outcome."""
        hardware = step.hardware
        while not await has_builder(self._pool, hardware):
            self._report_absence(hardware, show)
            await asyncio.sleep(_LOOK_S)
        await ensure_topics(self._kafka, build_topics(hardware))
        request = BuildRequest.of(build, int(await present_s(self._pool) * 1000))
        with self._waiting(request.id, show) as wait:
            await self._send(request, step)
            show(f"waiting for a worker of {hardware}")
            return await self._ended(request, step, wait)

    async def _ended(self, request: BuildRequest, step: HardwareStep, wait: _Wait) -> BuildRow:
        hardware, absent_s = step.hardware, 0.0
        while True:
            wait.news.clear()
            row = await get_build(self._pool, request.id)
            if row is not None and row.outcome is not None and row.asked_ms >= request.asked_ms:
                return row
            if await wait_within(_CHECK_S, wait.news):
                continue
            absent_s = 0.0 if await has_builder(self._pool, hardware) else absent_s + _CHECK_S
            if absent_s > _GRACE_S:
                self._report_absence(hardware, wait.show)
            if row is None:
                await self._send(request, step)

    def _report_absence(self, hardware: str, show: Show) -> None:
        if not self._wait:
            raise NoWorker(hardware)
        show(f"waiting until there is a worker of {hardware}")

    async def _send(self, request: BuildRequest, step: HardwareStep) -> None:
        await asyncio.to_thread(self._build, step, {})  # after a day of waiting its files were deleted
        value = msgspec.json.encode(request)
        try:
            await self._producer.send_and_wait(topics.build_topic(step.hardware), value, key=request.id.encode())
        except KafkaError as error:
            raise OperatorError(f"cannot send the build request for {step.hardware} to Kafka: {error!r}") from error

    @contextmanager
    def _waiting(self, build: str, show: Show) -> Generator[_Wait]:
        wait = _Wait(show, asyncio.Event())
        self._waits[build].append(wait)
        try:
            yield wait
        finally:
            self._waits[build].remove(wait)
            if not self._waits[build]:
                del self._waits[build]

    async def follow(self, reports: Tail) -> None:
        """Wake waiting callers and show them which worker has begun, until cancelled."""
        async for record in reports:
            try:
                report = msgspec.json.decode(record.value or b"", type=BuildReport)
            except msgspec.DecodeError as error:
                log.warning("ignoring a record of %s: %s", record.topic, error)
                continue
            for wait in self._waits.get(report.build, ()):
                if report.ended:
                    wait.news.set()
                else:
                    wait.show(f"by {report.worker}")

    # -- files; these block --------------------------------------------------------------------------------------------

    def _build(self, step: HardwareStep, written: dict[str, Path]) -> Build:
        """Return the build of a step; add the files that it writes to `written`, by their names in the build."""

        def named(path: Path) -> Path:
            name = f"{len(written)}.file"
            written[name] = path
            return Path(name)

        run = self._opened if isinstance(step, PlanVariants) else self._run  # a plan depends on the machine now
        return Build(step=with_files(step, self._offer, named), run=run)

    def _offer(self, file: Path) -> Path:
        """Make a file available to workers; return its name for them."""
        stat = file.stat()
        identity = (file, stat.st_mtime_ns, stat.st_size)
        known = self._offered.get(identity)
        sha256 = known or sha256_of(file)
        if not self._artifacts.has(sha256) and not (known and self._exchange.has(known)):
            self._exchange.put(file)
        self._offered[identity] = sha256
        return Path(sha256)

    def _fetch(self, files: Mapping[str, str], written: Mapping[str, Path]) -> None:
        """Copy the files that a step wrote to this machine.

        They stay in the exchange as long as outcomes do: steps that wrote the same content share a file, and a resumed
        registration needs it again.
        """
        for name, sha256 in files.items():
            with self._exchange.held(sha256) as file:
                shutil.copyfile(file, written[name])


@asynccontextmanager
async def remote_steps(
    pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, exchange: ArtifactStore, *, again: bool, wait: bool
) -> AsyncGenerator[RemoteSteps]:
    """Yield a runner of steps on the workers of a system.

    `exchange` stores the files that only builds need; `again` repeats steps that were executed before; `wait` waits for
    a worker if there is none of a step's hardware.
    """
    await ensure_topics(kafka, [TopicSpec(topics.BUILD_REPORTS, retention_ms=_KEPT_MS)])
    client, tasks = f"infaas-register-{_BY}", asyncio.TaskGroup()
    async with Producer(kafka, client) as producer, Tail(kafka, client, [topics.BUILD_REPORTS]) as reports:
        runner = RemoteSteps(pool, kafka, artifacts, exchange, producer, again=again, wait=wait)
        await tasks.__aenter__()
        following = tasks.create_task(runner.follow(reports), name="follow builds")
        try:
            yield runner
        finally:
            following.cancel()
            await tasks.__aexit__(None, None, None)  # errors of the caller are not wrapped in a group
