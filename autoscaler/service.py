"""The autoscaler's loop: observe, record, decide, apply. One leader runs it; the others stand by.

It decides after each reading. It also decides at once when a selector demands a variant, the catalog changes, workers
or their wanted number change, or a person pins, pauses or resumes. While readings fail or Postgres cannot be reached,
the scale is held and running instances continue.
"""

import asyncio
import logging
import os
import socket
import time
from contextlib import AsyncExitStack

import msgspec

from autoscaler.apply.background_solver import BackgroundSolver
from autoscaler.apply.plan_writer import grow_topics, write_plan
from autoscaler.apply.worker_reconciler import WorkerReconciler
from autoscaler.decide.plan import ScalePlan
from autoscaler.decide.planner import Planner
from autoscaler.decide.snapshot import DecisionMemory, Policy
from autoscaler.janitor.janitor import Janitor
from autoscaler.launchers.base import Launcher
from autoscaler.launchers.registry import open_launcher
from autoscaler.observe.load_window import LoadWindow
from autoscaler.observe.snapshot_builder import SnapshotBuilder
from autoscaler.observe.status_cache import WorkerStatusCache
from autoscaler.record.recorder import Recorder
from autoscaler.record.shadow_comparison import ShadowComparer
from autoscaler.settings import AutoscalerSettings
from broker.fetch.fetch_request import LONGEST_MS, FetchPace
from broker.fetch.tail import Tail
from broker.kafka.clocks import BrokerClock
from broker.kafka.cluster import BrokerFeatures, KafkaReachability, broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from broker.kafka.types import APPEND_TIME, Record
from broker.lag.reader import LagReader
from process.health import health_server
from process.outages import FailureLog
from schemas import topics
from schemas.errors import OperatorError
from schemas.load_classes import SelectorLoad
from schemas.status import Demand, WorkerStatus
from store.catalog import CatalogWatcher
from store.errors import StoreUnavailable
from store.leader import Leadership
from store.migrate import require_current
from store.pool import Pool, open_pool
from store.samples import present_s
from store.scaling import read_cluster
from store.settings import StoreSettings
from store.shared_connection import PLACEMENT, SCALE, ChangeListener

log = logging.getLogger(__name__)

_LEAD = "autoscaler"
_CLIENT = f"infaas-autoscaler-{socket.gethostname()}-{os.getpid()}"
_FETCH_WAIT_MS = 50
_IDLE_FETCH_WAIT_MS = 200
_AS_STATUS = msgspec.json.Decoder(WorkerStatus)
_AS_LOAD = msgspec.json.Decoder(SelectorLoad)
_AS_DEMAND = msgspec.json.Decoder(Demand)


async def serve(settings: AutoscalerSettings, kafka: KafkaSettings, store: StoreSettings, stop: asyncio.Event) -> None:
    """Lead, or stand by to lead, until `stop` is set.

    Raises:
        OperatorError: Kafka cannot be reached, or the database has another version.
        StoreUnavailable: Postgres cannot be reached at the start.
    """
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(store.dsn))
        await require_current(pool)
        await ensure_system_topics(kafka)
        # On brokers that do not wake a waiting fetch, each wait costs them work; a delay of some milliseconds is fine
        # here.
        kafka = kafka.model_copy(update={"fetch_max_wait_ms": max(kafka.fetch_max_wait_ms, _FETCH_WAIT_MS)})
        catalog = await stack.enter_async_context(CatalogWatcher(store.dsn))
        problem = KafkaReachability(kafka).problem
        await stack.enter_async_context(health_server(settings.metrics_host, settings.metrics_port, problem))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        leading = tasks.create_task(_lead(settings, kafka, store.dsn, pool, catalog), name="autoscaler")
        await stop.wait()
        leading.cancel()


async def _lead(
    settings: AutoscalerSettings, kafka: KafkaSettings, dsn: str, pool: Pool, catalog: CatalogWatcher
) -> None:
    while True:
        async with Leadership(dsn, _LEAD) as lead:
            log.info("leading")
            features, clock = await broker_features(kafka), await _clock(pool)
            pace = FetchPace(kafka, longest_ms=LONGEST_MS if features.wakes else _IDLE_FETCH_WAIT_MS, lazy=True)
            async with (
                open_launcher(settings) as launcher,
                Tail(kafka, _CLIENT, [topics.STATUS, topics.DEMAND, topics.LOAD, topics.SHADOWS], pace) as tail,
                LagReader(kafka, clock=clock) as reader,
            ):
                term = Autoscaler(settings, kafka, pool, catalog, lead, reader, launcher, features)
                await term.run(tail, ChangeListener(dsn, [PLACEMENT, SCALE]))
            log.warning("no longer leading; standing by")


async def _clock(pool: Pool) -> BrokerClock:
    """Return the broker's clock: set by records later, until then by the database's time instead of this machine's."""
    try:
        ahead_s = await present_s(pool) - time.monotonic()
    except StoreUnavailable as error:
        log.warning("using this machine's time until a record is read: %s", error)
        return BrokerClock()
    return BrokerClock(wall_clock=lambda: ahead_s + time.monotonic())


class Autoscaler:
    """The loop during one term of leadership."""

    def __init__(
        self, settings: AutoscalerSettings, kafka: KafkaSettings, pool: Pool, catalog: CatalogWatcher,
        lead: Leadership, reader: LagReader, launcher: Launcher, features: BrokerFeatures,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._kafka = kafka
        self._can_add_partitions = features.growth
        self._pool = pool
        self._catalog = catalog
        self._lead = lead
        self._statuses = WorkerStatusCache(time.monotonic, settings.status_ttl_s)
        self._load_window = LoadWindow(self._statuses)
        self._clock = reader.clock
        self._recorder = Recorder(settings, reader, pool, self._statuses, self._load_window)
        self._janitor = Janitor(
            settings, kafka, pool, lambda: self._recorder.reading, can_trim=features.trims
        )  # fmt: skip
        self._reconciler = WorkerReconciler(launcher, settings.reconcile_timeouts, pool, lead, self._statuses)
        self._snapshot_builder = SnapshotBuilder(
            self._statuses, self._load_window, settings.min_workers, can_add_partitions=features.growth,
            clock=time.monotonic,
        )  # fmt: skip
        self._shadows = ShadowComparer()
        self._wake = asyncio.Event()
        self._solver = BackgroundSolver(settings.limits, settings.solve_interval_s, self._wake.set)
        self._served: frozenset[str] = frozenset()
        self._planner = Planner(settings.limits, settings.policy)
        self._memory = DecisionMemory()
        self._failures = FailureLog("deciding", "scaling is suspended")
        self._unplaced: dict[str, str] = {}

    async def run(self, tail: Tail, changes: ChangeListener) -> None:
        """Observe, record, decide and apply until the leadership is lost."""
        async with changes, asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(self._listen(tail), name="listen"),
                tasks.create_task(self._follow_changes(changes), name="changes"),
                tasks.create_task(self._follow_catalog(), name="catalog"),
                tasks.create_task(self._record(), name="record"),
                tasks.create_task(self._decide(), name="decide"),
                tasks.create_task(self._janitor.run(), name="janitor"),
                tasks.create_task(self._reconciler.run(), name="reconcile"),
            ]
            if self._settings.policy is Policy.MILP:
                loops.append(tasks.create_task(self._solver.run(), name="solve"))
            await self._lead.lost.wait()
            for loop in loops:
                loop.cancel()

    # -- what wakes the decision ---------------------------------------------------------------------------------------

    async def _listen(self, tail: Tail) -> None:
        async for record in tail:
            try:
                self._on_record(record)
            except msgspec.DecodeError as error:
                log.warning("ignoring a record of %s: %s", record.topic, error)

    def _on_record(self, record: Record) -> None:
        topic, value = record.topic, record.value or b""
        if record.timestamp_type == APPEND_TIME:
            self._clock.on_record(record.timestamp)
        if topic == topics.STATUS:
            status = _AS_STATUS.decode(value)
            self._statuses.on_status(status)
            self._load_window.on_answers(status.answers)
            self._recorder.answer_times.add(status.answer_times)
        elif topic == topics.SHADOWS:
            self._shadows.take(record, self._catalog.current)
        elif topic == topics.LOAD:
            self._load_window.on_load(_AS_LOAD.decode(value), time.monotonic())
        else:
            self._statuses.on_demand(_AS_DEMAND.decode(value))
            self._wake.set()

    async def _follow_changes(self, changes: ChangeListener) -> None:
        async for _channel in changes:
            self._wake.set()
            self._reconciler.wake()

    async def _follow_catalog(self) -> None:
        while True:
            await self._catalog.changed()
            self._wake.set()

    async def _record(self) -> None:
        clock = asyncio.get_running_loop().time
        due_s = clock()
        while True:
            await self._recorder.record(self._catalog.current, self._served)
            await self._shadows.write(self._pool)
            self._wake.set()
            # A reading that took too long is not caught up on: the schedule restarts at the present.
            due_s = max(due_s + self._settings.interval_s, clock())
            await asyncio.sleep(due_s - clock())

    # -- the decision --------------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._decide_once()
            except (StoreUnavailable, OperatorError) as error:
                # OperatorError: rows have changed since the snapshot (conflict), or Kafka refused to add partitions.
                self._failures.failed(error)
            else:
                self._failures.recovered()

    async def _decide_once(self) -> None:
        catalog = self._catalog.current
        rows = await read_cluster(self._pool)
        snapshot = self._snapshot_builder.build(
            rows, catalog, self._memory, self._reconciler.hardware, self._reconciler.launched,
            self._recorder.waiting, self._recorder.dated, readings_known=self._recorder.known,
        )  # fmt: skip
        living = {worker.name for worker in snapshot.workers if worker.alive}
        self._served = frozenset(row.variant for row in snapshot.instances if row.worker in living)
        # In a thread: with a thousand workers it takes half a second, which would block the loop.
        ranking, plan = await asyncio.to_thread(self._planner.plan, catalog, snapshot, self._solver.targets)
        self._solver.submit(ranking, snapshot)
        await write_plan(plan, self._settings.policy, self._lead)
        self._memory = plan.memory
        self._log_unplaced(plan)
        selectors = self._load_window.selector_count(time.monotonic()) if self._can_add_partitions else 0
        await grow_topics(plan.partitions, catalog, selectors, self._pool, self._kafka)

    def _log_unplaced(self, plan: ScalePlan) -> None:
        for variant, reason in plan.unplaced.items():
            if self._unplaced.get(variant) != reason:
                log.warning("variant %s is not placed: %s", variant, reason)
        self._unplaced = plan.unplaced
