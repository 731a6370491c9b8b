"""The control loop of one instance, which follows its row of `instances` on this worker.

    load, warm up (again if it fails) -> take partitions -> serve, follow the row -> drain, hand over, unload

What cannot be loaded after some attempts has failed: the status and the row say why, another worker is given it, and
after a while the queries that nobody took from here are answered with the reason. See `workers/loading.py`.

Partitions are taken under leases only. One that another worker still holds is asked for, and taken as soon as it is let
go; meanwhile the instance serves those it has.

A partition that the row no longer names, or whose row is gone, is served on until the worker that is to have it has
loaded and asks for it: a move pauses nobody. Then it is handed over, one partition after the other: first the selectors
are told to send nothing more there, then it is drained and committed, and at last its lease is released, so its next
owner begins exactly where this one stopped. Nobody is waited for whose worker is dead, or for longer than
`handover_timeout_s`; and a worker that is told to stop waits for nobody.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from broker.delivery.consumer import Consumer
from broker.fetch.read_connection import ReadConnection
from broker.producer import Producer
from broker.record_memory import RecordMemory
from broker.reply_stream.sender import ReplyStreamSender
from broker.settings import KafkaSettings
from broker.topics import ensure_variant_topics
from process.cpu_meter import CpuMeter
from process.event_wait import wait_within
from registry.artifacts import ArtifactStore
from schemas.errors import OperatorError
from schemas.rows.catalog import Profile, Variant
from schemas.rows.placement import InstanceRow
from schemas.status import InstanceState, InstanceStatus
from schemas.topics import variant_group
from store.catalog import Catalog, CatalogWatcher
from store.errors import StoreConflict, StoreUnavailable
from store.placement import report_instance_state
from store.pool import Pool
from workers.computation import ComputeLimits
from workers.corrected_profile import CorrectedProfile
from workers.crash_journal import CrashJournal
from workers.executor import BatchExecutor
from workers.footprint import footprint_of
from workers.instance import ServingInstance
from workers.lease import Leases
from workers.loading import DeviceMemory, LoadFailure, UnloadableModel, close_session, load_failure, open_session
from workers.metrics import AnswerMeter
from workers.model import LoadedModel, ServableModel
from workers.replacement import Replacement
from workers.settings import WorkerSettings
from workers.slot_backlog import WaitingBatches
from workers.status_trigger import StatusTrigger

log = logging.getLogger(__name__)

_ASK_AGAIN_S: Final = 0.25
_MEMORY_AGAIN_S: Final = 0.05  # until it is looked again whether those have gone whose memory a model is to have
_RETRY_S: Final = 1.0
_DOUBLINGS: Final = 10
_LOOK_AGAIN_S: Final = 1.0  # until a failed instance looks again whether its model was registered anew
_BATCHES_AHEAD: Final = 4
_LIMITS: Final = 2.5  # times of a batch's: by then each query of one that hangs has failed, or was computed alone


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Resources that all instance controllers of a worker share."""

    settings: WorkerSettings
    kafka: KafkaSettings
    pool: Pool
    catalog: CatalogWatcher
    online: ReadConnection
    """What online queries are read over, of all instances at once; offline ones have another."""
    offline: ReadConnection
    record_memory: RecordMemory
    """Memory of the queries that all instances have taken and not answered."""
    producer: Producer
    streams: ReplyStreamSender
    artifacts: ArtifactStore
    executor: BatchExecutor
    journal: CrashJournal
    leases: Leases
    answers: AnswerMeter
    loader: Executor
    """Thread that loads models, one at a time, so that each knows how much memory is left."""
    memory: DeviceMemory
    replacement: Replacement
    cpu: CpuMeter = field(default_factory=CpuMeter)
    trigger: StatusTrigger = field(default_factory=StatusTrigger)
    """What says when the status is due."""


class InstanceController:
    """Controller of one instance from the row that wants it to its end; `run` is all of it."""

    def __init__(self, row: InstanceRow, context: WorkerContext) -> None:
        self.variant = row.variant
        self._row: InstanceRow | None = row
        self._reason = row.reason or "wanted"
        """Reason of the row, reported again after a load that failed at first."""
        self._failed = False
        self._failure = ""
        """Why it cannot be loaded, while it cannot."""
        self._context = context
        self._state = InstanceState.LOADING
        self._updated = asyncio.Event()
        self._profile = CorrectedProfile(
            row.variant, context.settings, context.pool, context.catalog, context.cpu, self._updated.set
        )
        self._instance: ServingInstance | None = None
        self._lost: set[int] = set()
        self._leaving = False
        self._giving_up_since: float | None = None
        self.ending = False
        """Whether it drains for good, or is gone: a row that comes back is for another controller."""

    # -- from outside --------------------------------------------------------------------------------------------------

    def update_row(self, row: InstanceRow | None) -> None:
        """Follow the row as it is now; None: there is none."""
        if not self.ending and row != self._row:
            self._row = row
            self._context.memory.expect_release(self.variant, expected=row is None)
            self._updated.set()

    def shut_down(self) -> None:
        """End without waiting for the next owners: the worker stops."""
        self._leaving, self._row = True, None
        self._updated.set()

    def recheck_leases(self) -> None:
        """Look at the leases again: one was released or is asked for, and it may be one of ours."""
        if self._instance is not None:
            self._updated.set()

    def lose_leases(self, partitions: set[int]) -> None:
        """Stop serving these partitions: another worker took their leases."""
        self._lost |= partitions
        if self._instance is not None:
            self._instance.drop_partitions(partitions)
        self._updated.set()

    def status(self) -> InstanceStatus:
        """Status of the instance, for the worker's status record."""
        if self._instance is None:
            return InstanceStatus(variant=self.variant, state=self._state, reason=self._failure)
        return replace(self._instance.status(), reason=self._failure)

    def waiting_batches(self) -> Sequence[WaitingBatches]:
        """What online queries that it holds will be computed in."""
        return self._instance.waiting_batches() if self._instance else ()

    def update_health(self, now_s: float) -> bool:
        """Update the state from the instance's health; returns whether it changed."""
        if self._instance is None or self.ending or self._failure:
            return False
        self._profile.check()
        return self._instance.update_health(now_s)

    # -- control loop --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Load, serve and unload; returns when the row is gone and all it held is answered."""
        loaded = await self._load()
        if loaded is None:
            self.ending = True
            await self._context.leases.withdraw_requests(self.variant)
            return
        model, in_memory = loaded
        try:
            await self._keep_serving(model, in_memory)
        finally:
            self._instance = None  # where it was cancelled; else it was let go
            await self._set_state(InstanceState.INACTIVE)
            await self._context.leases.withdraw_requests(self.variant)
            await asyncio.to_thread(close_session, self.variant, in_memory, self._context.memory)
            log.info("unloaded %s", self.variant)

    async def _load(self) -> tuple[ServableModel, LoadedModel] | None:
        """Try to load until it succeeds, or the instance is no longer wanted."""
        settings, attempts = self._context.settings, 0
        while (row := self._row) is not None:
            self._failure = ""
            await self._set_state(InstanceState.LOADING)
            try:
                return await self._load_once(row)
            except Exception as error:  # a runtime raises what it likes; a model that fails must not stop the others
                log.warning("cannot load %s: %s", self.variant, error, exc_info=not isinstance(error, OperatorError))
                failure = load_failure(error)
            self._failed = True
            attempts += 1
            pause_s = min(_RETRY_S * 2.0 ** min(attempts - 1, _DOUBLINGS), settings.load_retry_max_s)
            if attempts < settings.load_attempts:
                await self._set_state(InstanceState.INACTIVE, f"cannot load: {failure.reason}")
                await self._wait(pause_s)
            else:
                await self._stay_failed(row, failure, pause_s)
        return None

    async def _stay_failed(self, row: InstanceRow, failure: LoadFailure, pause_s: float) -> None:
        """Say that it cannot be loaded, until it may be worth another try; in the end to those who wait for it, too."""
        loop, catalog = asyncio.get_running_loop(), self._context.catalog
        began_s, tried = loop.time(), _as_registered(catalog.current, self.variant)
        self._failure = failure.reason
        await self._set_state(InstanceState.FAILED, f"cannot load: {failure.reason}")

        def is_over() -> bool:
            again = _as_registered(catalog.current, self.variant) != tried
            return self._row is None or again or (failure.may_pass and loop.time() - began_s >= pause_s)

        while not is_over() and (left_s := began_s + self._context.settings.failed_answer_s - loop.time()) > 0:
            await self._wait(min(left_s, _LOOK_AGAIN_S))
        if is_over():
            return
        try:
            model = self._profile.model(row.max_batch)
        except OperatorError:  # it is being deleted; its row goes with it
            await self._wait(_LOOK_AGAIN_S)
            return
        unloadable = UnloadableModel(self.variant, failure.reason)
        await self._keep_serving(model, LoadedModel(unloadable, {}, ExitStack()), is_over)

    async def _load_once(self, row: InstanceRow) -> tuple[ServableModel, LoadedModel]:
        context = self._context
        await self._profile.read()
        model = self._profile.model(row.max_batch)
        while self._row is not None and context.memory.is_expected(model):
            await self._wait(_MEMORY_AGAIN_S)
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(
            context.loader, open_session, model, context.settings, context.artifacts, context.memory
        )
        return model, await opening

    async def _keep_serving(
        self, model: ServableModel, loaded: LoadedModel, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        """Serve until it is over; begin anew after a pause where Kafka is away or refuses. The others serve on."""
        pause_s = _RETRY_S
        if self._row is None:  # while it was loading: what was unregistered meanwhile has no topics any more
            self.ending = True
        while not self.ending and not is_over():
            problem = ""
            try:
                await self._serve(model, loaded, is_over)
            except* OperatorError as errors:
                log.warning("cannot serve %s, will try again: %s", self.variant, errors.exceptions[0])
                problem = f"cannot serve: {errors.exceptions[0]}"[:500]
            await self._let_go(problem)
            if self._row is None:
                self.ending = True
            elif not self.ending and not is_over():
                await self._wait(pause_s)
                pause_s = min(pause_s * 2, self._context.settings.load_retry_max_s)

    async def _let_go(self, problem: str) -> None:
        """Let others have what was served from here until now; `problem` says why it cannot be served, if it cannot."""
        instance, self._instance = self._instance, None
        if problem:
            self._failed = True
            await self._set_state(InstanceState.INACTIVE, problem)
        if instance is not None and instance.partitions:
            await self._context.leases.release(self.variant, instance.partitions)

    async def _serve(self, model: ServableModel, loaded: LoadedModel, is_over: Callable[[], bool]) -> None:
        context, settings = self._context, self._context.settings
        # Who came from a version that had one topic of a variant has none of offline queries yet.
        await ensure_variant_topics(context.kafka, [(self.variant, model.variant.partitions)])
        async with self._consumer(model, context.online) as online, self._consumer(model, context.offline) as offline:
            instance = ServingInstance(
                model, loaded, online, offline, context.producer, context.streams, context.executor,
                context.journal, settings.worker, context.answers, context.trigger,
                ComputeLimits(settings.compute_limit_s, settings.compute_limit_factor), context.replacement,
                self._profile, footprint_of(model, settings),
            )  # fmt: skip
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(instance.serve(), name=f"serve {self.variant}")
                self._instance = instance
                if self._failure:
                    await self._set_state(InstanceState.FAILED)
                else:
                    await self._set_state(InstanceState.ACTIVE, self._reason if self._failed else "")
                await self._follow(instance, is_over)
                if self._row is None:
                    self.ending = True
                    await self._set_state(InstanceState.DRAINING)
                serving.cancel()

    def _consumer(self, model: ServableModel, over: ReadConnection) -> Consumer:
        context = self._context
        return Consumer(
            context.kafka, f"{context.settings.worker}-{self.variant}", group=variant_group(self.variant),
            max_in_flight=self._prefetch(model), memory=context.record_memory, may_commit=context.leases.are_current,
            over=over, clocks=context.producer.clock,
        )  # fmt: skip

    def _prefetch(self, model: ServableModel) -> int:
        """Number of queries to fetch ahead: about `prefetch_s` of work, but enough to keep the device busy."""
        settings = self._context.settings
        slots = footprint_of(model, settings).parallel
        wanted = slots * settings.prefetch_s / max(model.latency.input_s(), 1e-6)
        return min(max(int(wanted), _BATCHES_AHEAD * slots * model.latency.max_batch), settings.prefetch_max)

    async def _follow(self, instance: ServingInstance, is_over: Callable[[], bool]) -> None:
        """Serve the partitions that the row names; returns when there is no row and nobody waits for what is here.

        Of a model that has failed it returns as soon as that is over.
        """
        while self._row is None or not is_over():
            row = self._row  # which may be another when the partitions are taken
            wanted = set(row.partitions) if row is not None else set[int]()
            await self._predict_anew(instance)
            if self._lost:
                self._lost.clear()
                await instance.assign(instance.partitions, 0.0)
                self._context.trigger.change()
            missing = wanted - instance.partitions
            if missing:
                taken = await self._acquire(missing)
                if taken:
                    await instance.assign(instance.partitions | taken, 0.0)
                    self._context.trigger.change()
                missing -= taken
            for partition in sorted(await self._due(instance.partitions - wanted)):
                await self._hand_over(instance, frozenset({partition}))
            kept = instance.partitions - wanted
            if row is None and not kept:
                return
            await self._wait(_ASK_AGAIN_S if missing or kept else _LOOK_AGAIN_S if self._failure else None)

    async def _predict_anew(self, instance: ServingInstance) -> None:
        """Follow the profile, and the row's batch limit; what is loaded can do any that the variant allows."""
        corrected = await self._profile.follow()
        if self._row is None or not (corrected or self._row.max_batch != instance.model.latency.max_batch):
            return
        try:
            instance.use_model(self._profile.model(self._row.max_batch))
            self._context.trigger.change()
        except OperatorError as error:  # it is being deleted; its row goes with it
            log.debug("predicting as before: %s", error)

    async def _due(self, partitions: frozenset[int]) -> frozenset[int]:
        """Those of the partitions, which others are to have, that should be handed over now."""
        if not partitions:
            self._giving_up_since = None
            return partitions
        now_s = asyncio.get_running_loop().time()
        self._giving_up_since = self._giving_up_since or now_s
        if self._leaving or now_s - self._giving_up_since > self._context.settings.handover_timeout_s:
            return partitions
        return await self._context.leases.due_for_handover(self.variant, partitions)

    async def _acquire(self, partitions: set[int]) -> set[int]:
        try:
            return await self._context.leases.acquire(self.variant, partitions)
        except StoreConflict as error:  # the variant is being deleted; its row goes with it
            log.warning("no leases for %s: %s", self.variant, error)
            return set()

    async def _hand_over(self, instance: ServingInstance, partitions: frozenset[int]) -> None:
        if partitions:
            instance.hide_partitions(partitions)
            self._context.trigger.change()
            settings = self._context.settings
            # A query that hangs here is to fail here, and not at the next owner.
            hung_s = _LIMITS * settings.compute_limit_s if self._context.replacement.wanted else 0.0
            await instance.assign(instance.partitions - partitions, max(settings.drain_timeout_s, hung_s))
            await self._context.leases.release(self.variant, partitions)
            self._context.trigger.change()

    async def _wait(self, at_most_s: float | None) -> None:
        """Wait until something is new, or for so long."""
        if await wait_within(at_most_s, self._updated):
            self._updated.clear()

    async def _set_state(self, state: InstanceState, reason: str = "") -> None:
        self._state = state
        if self._instance is not None:
            self._instance.state = state
        context = self._context
        context.trigger.change()
        if self._row is None:
            return
        try:
            await report_instance_state(context.pool, context.settings.worker, self.variant, state, reason)
        except StoreUnavailable as error:  # the status record says it, too
            log.debug("state of %s not reported: %s", self.variant, error)


def _as_registered(catalog: Catalog, variant: str) -> tuple[Variant | None, Profile | None]:
    return catalog.variants.get(variant), catalog.profiles.get(variant)
