"""One worker process: registers, follows its placement, and leaves in good order.

register -> follow placement, keep leases, publish status -> (signal) announce it, drain, hand over, retire
"""

import asyncio
import logging
import socket
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from broker.delivery.committer import SharedCommitters
from broker.delivery.in_flight import RecordMemory
from broker.fetch.read_connection import ReadConnection
from broker.kafka.cluster import KafkaReachability
from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Producer
from broker.replies.sender import ReplyStreamSender
from process.collection import tune_gc
from process.cpus import pin_thread
from process.health import health_server
from process.home import home_name
from process.sandbox import has_sandbox
from process.secrets import forget_secrets
from process.tracing.tracer import open_tracer
from registry.artifact_settings import open_artifacts, open_exchange
from registry.artifacts import ArtifactStore
from runtimes.catalog import available_runtimes
from runtimes.device import device_name, use_device
from schemas import topics
from schemas.rows.cluster import WorkerRow
from store.catalog import CatalogWatcher
from store.errors import StoreUnavailable
from store.migrate import require_current
from store.placement import TakeOver, drain_to_be_replaced, retire_worker
from store.pool import Pool
from store.scaling import undrain_workers
from store.settings import StoreSettings
from store.shared_connection import SharedConnection
from workers.builder import Builder, may_build
from workers.context import WorkerContext
from workers.instance_controller import InstanceController
from workers.lease import Leases
from workers.placement import PlacementFollower
from workers.replacement import Replacement, exit_to_be_replaced
from workers.serving.loading import DeviceMemory
from workers.settings import WorkerSettings
from workers.slots.crash_journal import CrashJournal
from workers.slots.executor import SPARE_SLOTS, BatchExecutor
from workers.status import StatusReporter
from workers.worker_name import claim_name, named_worker

log = logging.getLogger(__name__)

SWITCH_S: Final = 0.00005
"""Seconds that a slot's thread waits for the interpreter while the event loop runs. Python's default of 5 ms is as long
as a batch of a small model, and costs a tenth of the throughput under a full queue."""

_ALONE_S: Final = 10.0
"""Seconds within which another worker that ended should have restarted."""


async def serve_named(
    settings: WorkerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event
) -> None:
    """Run a worker as `serve` does, with the device and the name that the settings select."""
    if settings.device is not None:
        use_device(settings.hardware, settings.device)
    async with named_worker(settings) as named:
        await serve(named, kafka, store, stop)


async def serve(settings: WorkerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event) -> None:
    """Run a worker until `stop` is set and everything is drained.

    Raises:
        OperatorError: Kafka cannot be reached, another worker of this name has started, or builds require a sandbox
            that is not available.
        StoreUnavailable: Postgres cannot be reached at the start.
    """
    defect = asyncio.get_running_loop().create_future()
    replacement = Replacement()
    async with AsyncExitStack() as stack:
        if settings.builds:
            await asyncio.to_thread(has_sandbox)
        pool = await stack.enter_async_context(SharedConnection(store.dsn))
        await require_current(pool)
        catalog = await stack.enter_async_context(CatalogWatcher(pool))
        producer = await stack.enter_async_context(Producer(kafka, settings.worker))
        await producer.prefetch_metadata([topics.STATUS, topics.DEAD_LETTERS])
        online = await stack.enter_async_context(ReadConnection(kafka, settings.worker))
        offline = await stack.enter_async_context(ReadConnection(kafka, f"{settings.worker}-offline"))
        sender = ReplyStreamSender(kafka.reply_stream, kafka_encrypted=kafka.encrypted)
        streams = await stack.enter_async_context(sender)
        executor = _open_executor(settings, defect, stack)
        loader = _open_loader(settings, stack)
        journal = _open_journal(settings, stack)
        await stack.enter_async_context(_health_server(settings, kafka, replacement))
        tracer = await stack.enter_async_context(open_tracer("worker", settings.worker))
        exchange, builds = await asyncio.to_thread(_open_exchange, settings)
        epoch = await _register(settings, pool, loader, builds=builds)
        leases = Leases(
            pool, settings.worker, epoch, settings.lease_ttl_s, lambda name, lost: placement.lose_leases(name, lost)
        )
        artifacts = await asyncio.to_thread(open_artifacts, settings.artifacts, settings.home)
        forget_secrets()  # everything that needs them is open, and no model is loaded yet
        context = WorkerContext(
            settings=settings,
            kafka=kafka,
            pool=pool,
            catalog=catalog,
            online=online,
            offline=offline,
            committers=await stack.enter_async_context(open_committers(settings, kafka, online, leases)),
            record_memory=RecordMemory(kafka.max_in_flight_bytes),
            producer=producer,
            streams=streams,
            artifacts=artifacts,
            executor=executor,
            journal=journal,
            leases=leases,
            loader=loader,
            memory=DeviceMemory(settings),
            replacement=replacement,
            tracer=tracer,
        )
        placement = PlacementFollower(pool, settings.worker, lambda row: InstanceController(row, context))
        _tune_interpreter()
        await _work(context, placement, Builder(context, exchange) if builds else None, stop, defect, epoch)
        if replacement.wanted:
            exit_to_be_replaced()
        await _retire(pool, settings.worker, epoch)


def _tune_interpreter() -> None:
    tune_gc()
    sys.setswitchinterval(SWITCH_S)


def open_committers(
    settings: WorkerSettings, kafka: KafkaSettings, over: ReadConnection, leases: Leases
) -> SharedCommitters:
    """Return the committers of a worker, which commit while its leases are current."""
    return SharedCommitters(over.client, settings.worker, kafka.request_timeout_ms / 1000, leases.are_current)


async def _register(settings: WorkerSettings, pool: Pool, loader: Executor, *, builds: bool) -> int:
    row = await asyncio.get_running_loop().run_in_executor(loader, worker_row, settings)  # imports the runtimes
    epoch = await claim_name(pool, replace(row, builds=builds))
    log.info("worker %s, epoch %d: %d slots of %s", settings.worker, epoch, settings.slots, settings.hardware)
    return epoch


async def _work(
    context: WorkerContext,
    placement: PlacementFollower,
    builder: Builder | None,
    stop: asyncio.Event,
    defect: "asyncio.Future[None]",
    epoch: int,
) -> None:
    settings, reporter = context.settings, StatusReporter(context, epoch, lambda: placement.controllers)
    async with asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(context.leases.keep_renewing(settings.lease_renew_s), name="leases"),
            tasks.create_task(reporter.run(), name="status"),
            tasks.create_task(_leave(stop, reporter), name="leave"),
            tasks.create_task(_wait(defect), name="defect"),
            tasks.create_task(context.executor.watch(), name="watch slots"),
            tasks.create_task(_replace(context, placement, epoch, stop), name="replacement"),
        ]
        if builder is not None:
            background.append(tasks.create_task(builder.run(), name="builder"))
        await placement.run(stop)
        for task in background:
            task.cancel()
    await reporter.publish()


async def _replace(context: WorkerContext, placement: PlacementFollower, epoch: int, stop: asyncio.Event) -> None:
    settings, pool, replacement = context.settings, context.pool, context.replacement

    async def take_over() -> TakeOver:
        state = await drain_to_be_replaced(pool, settings.worker, epoch)
        return TakeOver.DONE if state is TakeOver.DRAINING and not list(placement.controllers) else state

    await replacement.until_taken_over(
        settings.replace_timeout_s, _ALONE_S, lambda: context.executor.is_exhausted, take_over
    )
    try:
        async with asyncio.timeout(settings.replace_drain_s):
            await undrain_workers(pool, [settings.worker])  # so that the successor serves
    except (StoreUnavailable, TimeoutError) as error:
        log.warning("the drain mark was not removed: undrain the worker: %r", error)
    await replacement.leave(stop, settings.replace_drain_s)


async def _leave(stop: asyncio.Event, reporter: StatusReporter) -> None:
    await stop.wait()
    reporter.announce_leaving()


async def _wait(defect: "asyncio.Future[None]") -> None:
    await defect


async def _retire(pool: Pool, worker: str, epoch: int) -> None:
    try:
        await retire_worker(pool, worker, epoch)
    except StoreUnavailable as error:  # the leases expire by themselves
        log.warning("worker not retired in Postgres: %s", error)


def _open_exchange(settings: WorkerSettings) -> tuple[ArtifactStore, bool]:
    """Return the store of files for builds, and true if this worker may execute builds."""
    exchange = open_exchange(settings.artifacts, settings.home)
    return exchange, may_build(settings, exchange)


def _open_journal(settings: WorkerSettings, stack: AsyncExitStack) -> CrashJournal:
    slots = settings.slots + SPARE_SLOTS
    return stack.enter_context(CrashJournal(settings.journal_file, slots, settings.max_crashes))


def _open_executor(settings: WorkerSettings, defect: "asyncio.Future[None]", stack: AsyncExitStack) -> BatchExecutor:
    loop = asyncio.get_running_loop()

    def fail(error: BaseException) -> None:
        if not defect.done():
            defect.set_exception(error)

    def on_defect(error: BaseException) -> None:
        loop.call_soon_threadsafe(fail, error)

    executor = BatchExecutor(settings.slots, on_defect, settings.cpus)
    stack.push_async_callback(asyncio.to_thread, executor.close)
    return executor


def _open_loader(settings: WorkerSettings, stack: AsyncExitStack) -> Executor:
    """Start a thread pinned to the worker's cores; the threads that a session starts inherit the pinning."""
    loader = ThreadPoolExecutor(1, "loader", pin_thread, (settings.cpus,))
    stack.push_async_callback(asyncio.to_thread, loader.shutdown)
    return loader


def _health_server(
    settings: WorkerSettings, kafka: KafkaSettings, replacement: Replacement
) -> AbstractAsyncContextManager[None]:
    problem = KafkaReachability(kafka).problem
    return health_server(settings.metrics_host, settings.metrics_port, problem, live=lambda: not replacement.leaves)


def worker_row(settings: WorkerSettings) -> WorkerRow:
    """Return the row that a worker with these settings registers."""
    return WorkerRow(
        name=settings.worker,
        hardware=settings.hardware.value,
        device=device_name(settings.hardware),
        host=socket.gethostname(),
        home=f"{home_name(settings.home)}:{settings.home.absolute()}",
        slots=settings.slots,
        threads=settings.threads,
        memory_bytes=settings.memory_bytes,
        price_per_hour=settings.price,
        runtimes=available_runtimes(settings.hardware),
        lease_ttl_s=settings.lease_ttl_s,
        epoch=0,
        heartbeat_at=datetime.now(UTC),
    )
