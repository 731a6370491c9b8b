"""Control loop of one instance: follows its row of `instances` on this worker.

    load, warm up (again if it fails) -> take partitions -> serve, follow the row -> drain, hand over, unload

A model that cannot be loaded after some attempts has failed: the status and the row give the reason, another worker
gets it, and queries that nobody takes in time are answered with the reason. See `workers/serving/loading.py`.

Partitions are served under leases only. A lease that another worker holds is requested, and taken once it is released;
until then the instance serves its other partitions.

A partition that the row no longer names, or whose row is gone, is served until its next owner has loaded and requests
its lease: a move causes no pause. Partitions are handed over one at a time: selectors stop sending there, the partition
is drained and committed, and its lease is released. The next owner begins exactly there. The instance waits for no dead
worker and at most `handover_timeout_s`; when the worker stops, it does not wait.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Final

from msgspec.structs import replace

from broker.delivery.consumer import Consumer
from broker.fetch.read_connection import ReadConnection
from broker.kafka.topics import ensure_variant_topics
from process.backoff import Backoff
from process.pauses import wait_within
from schemas.catalog import Catalog
from schemas.errors import OperatorError
from schemas.rows.catalog import Profile, Variant
from schemas.rows.cluster import DuePartition, InstanceRow
from schemas.status import InstanceState, InstanceStatus
from schemas.topics import variant_group
from store.errors import StoreConflict, StoreUnavailable
from store.placement import report_instance_state
from workers.context import WorkerContext
from workers.handover import ASK_AGAIN_S, NOTICED_S
from workers.serving.corrected_profile import CorrectedProfile
from workers.serving.loading import (
    LoadFailure,
    UnloadableModel,
    close_session,
    footprint_of,
    load_failure,
    open_session,
)
from workers.serving.model import LoadedModel, ServableModel
from workers.serving.open_instance import Instance, open_instance
from workers.slots.batch_queue import WaitingBatches
from workers.slots.prefetch import prefetch_count

log = logging.getLogger(__name__)

_MEMORY_AGAIN_S: Final = 0.05  # pause before the next check if expected memory is free
_RETRY_S: Final = 1.0
_LOOK_AGAIN_S: Final = 1.0  # pause before a failed instance checks if its model was registered again
_LIMITS: Final = 2.5  # multiple of a batch's limit: by then the queries of a hung batch have ended


class InstanceController:
    """Controller of one instance from its row's creation to its end; call `run`."""

    def __init__(self, row: InstanceRow, context: WorkerContext) -> None:
        self.variant = row.variant
        self._row: InstanceRow | None = row
        self._reason = row.reason or "wanted"
        """Reason in the row, reported again if an earlier load or attempt to serve failed."""
        self._failed = False
        self._failure = ""
        """Reason for which the model cannot be loaded; empty if it can."""
        self._context = context
        self._state = InstanceState.LOADING
        self._updated = asyncio.Event()
        self._profile = CorrectedProfile(row.variant, context, self._updated.set)
        self._instance: Instance | None = None
        self._lost: set[int] = set()
        self._leaving = False
        self._giving_up_since: float | None = None
        self.ending = False
        """True if it drains for good or is gone. If the row comes back, another controller handles it."""

    # -- calls from other tasks ----------------------------------------------------------------------------------------

    def update_row(self, row: InstanceRow | None) -> None:
        """Follow the row in its current state; None: it is deleted."""
        if not self.ending and row != self._row:
            self._row = row
            self._context.memory.expect_release(self.variant, expected=row is None)
            self._updated.set()

    def shut_down(self) -> None:
        """End without waiting for the next owners, because the worker stops."""
        self._leaving, self._row = True, None
        self._updated.set()

    def recheck_leases(self) -> None:
        """Check the leases again after one was released or requested; it may be one of this instance."""
        if self._instance is not None:
            self._updated.set()

    def lose_leases(self, partitions: set[int]) -> None:
        """Stop serving these partitions, because another worker took their leases."""
        self._lost |= partitions
        if self._instance is not None:
            self._instance.drop_partitions(partitions)
        self._updated.set()

    def status(self) -> InstanceStatus:
        """Return the status of the instance for the worker's status record."""
        if self._instance is None:
            return InstanceStatus(variant=self.variant, state=self._state, reason=self._failure)
        return replace(self._instance.status(), reason=self._failure)

    def waiting_batches(self) -> Sequence[WaitingBatches]:
        """Return the batches that the waiting online queries make."""
        return self._instance.work.waiting_batches() if self._instance else ()

    def update_health(self, now_s: float) -> None:
        """Update the state from the instance's health."""
        if self._instance is None or self.ending or self._failure:
            return
        self._profile.check()
        self._instance.update_health(now_s)

    # -- control loop --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Load, serve and unload. Returns when the row is gone and all queries held are answered."""
        loaded = await self._load()
        if loaded is None:
            self.ending = True
            await self._context.leases.withdraw_requests(self.variant)
            return
        model, in_memory = loaded
        try:
            await self._keep_serving(model, in_memory)
        finally:
            self._instance = None  # if `run` was cancelled; otherwise `_let_go` did this
            await self._set_state(InstanceState.INACTIVE)
            await self._context.leases.withdraw_requests(self.variant)
            await asyncio.to_thread(close_session, self.variant, in_memory, self._context.memory)
            log.info("unloaded %s", self.variant)

    async def _load(self) -> tuple[ServableModel, LoadedModel] | None:
        """Retry until loading succeeds. Returns None if the instance is no longer wanted."""
        settings, attempts = self._context.settings, 0
        backoff = Backoff(_RETRY_S, settings.load_retry_max_s)
        while (row := self._row) is not None:
            self._failure = ""
            await self._set_state(InstanceState.LOADING)
            try:
                return await self._load_once(row)
            except Exception as error:  # a runtime may raise any error; one model must not stop the others
                log.warning("cannot load %s: %s", self.variant, error, exc_info=not isinstance(error, OperatorError))
                failure = load_failure(error)
            self._failed = True
            attempts += 1
            pause_s = backoff.pause_s(attempts)
            if attempts < settings.load_attempts:
                await self._set_state(InstanceState.INACTIVE, f"cannot load: {failure.reason}")
                await self._wait(pause_s)
            else:
                await self._stay_failed(row, failure, pause_s)
        return None

    async def _stay_failed(self, row: InstanceRow, failure: LoadFailure, pause_s: float) -> None:
        """Report the failure until another attempt may succeed; later also answer waiting queries with it."""
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
        except OperatorError:  # it is being deleted; its row will follow
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
        """Serve until it ends; retry after a pause while Kafka is unreachable or refuses."""
        backoff, failures = Backoff(_RETRY_S, self._context.settings.load_retry_max_s), 0
        if self._row is None:  # gone during the load: an unregistered variant has no topics any more
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
                failures += 1
                await self._wait(backoff.pause_s(failures))

    async def _let_go(self, problem: str) -> None:
        """Release the partitions served until now; a `problem` that prevented serving is reported."""
        instance, self._instance = self._instance, None
        if problem:
            self._failed = True
            await self._set_state(InstanceState.INACTIVE, problem)
        if instance is not None and instance.partitions:
            await self._context.leases.release(self.variant, instance.partitions)

    async def _serve(self, model: ServableModel, loaded: LoadedModel, is_over: Callable[[], bool]) -> None:
        context = self._context
        # Variants created by a version with one topic per variant have no topic for offline queries yet.
        await ensure_variant_topics(context.kafka, [(self.variant, model.variant.partitions)])
        async with self._consumer(model, context.online) as online, self._consumer(model, context.offline) as offline:
            instance = open_instance(model, loaded, online, offline, self._profile, context)
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
        context, settings = self._context, self._context.settings
        parallel = footprint_of(model, settings).parallel
        return Consumer(
            context.kafka,
            f"{settings.worker}-{self.variant}",
            group=variant_group(self.variant),
            max_in_flight=prefetch_count(parallel, model.latency, settings.prefetch_s, settings.prefetch_max),
            memory=context.record_memory,
            committers=context.committers,
            over=over,
            clocks=context.producer.clock,
        )

    async def _follow(self, instance: Instance, is_over: Callable[[], bool]) -> None:
        """Serve the partitions of the row. Returns when the row is gone and no partition is left to hand over.

        For a model that has failed, it returns as soon as `is_over`.
        """
        while self._row is None or not is_over():
            row = self._row  # it may change while partitions are taken
            wanted = set(row.partitions) if row is not None else set[int]()
            await self._update_predictions(instance)
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
            await self._hand_over_due(instance, wanted)
            kept = instance.partitions - wanted
            if row is None and not kept:
                return
            await self._wait(ASK_AGAIN_S if missing or kept else _LOOK_AGAIN_S if self._failure else None)

    async def _update_predictions(self, instance: Instance) -> None:
        """Apply changes of the profile and of the row's batch limit; the loaded session supports every limit in use."""
        corrected = await self._profile.follow()
        if self._row is None:
            return
        try:
            model = self._profile.model(self._row.max_batch)
            if corrected or model.latency.max_batch != instance.model.latency.max_batch:
                instance.use_model(model)
                self._context.trigger.change()
        except OperatorError as error:  # it is being deleted; its row will follow
            log.debug("predictions are unchanged: %s", error)

    async def _hand_over_due(self, instance: Instance, wanted: Collection[int]) -> None:
        """Release the partitions that the row does not want and that are due."""
        due = await self._due(instance.partitions - frozenset(wanted))
        unclaimed = frozenset(one.partition for one in due if not one.requested)
        if unclaimed and self._row is None and instance.is_in_use:
            # Nobody would read what selectors send before they know. No event tells when they do.
            instance.hide_partitions(unclaimed)
            self._context.trigger.change()
            await asyncio.sleep(NOTICED_S)
            if self._row is not None:  # it has come back
                instance.hide_partitions(())
                self._context.trigger.change()
                return
        await self._hand_over(instance, unclaimed)
        for partition in sorted(one.partition for one in due if one.requested):
            await self._hand_over(instance, frozenset({partition}))

    async def _due(self, partitions: frozenset[int]) -> list[DuePartition]:
        if not partitions:
            self._giving_up_since = None
            return []
        now_s = asyncio.get_running_loop().time()
        self._giving_up_since = self._giving_up_since or now_s
        if self._leaving or now_s - self._giving_up_since > self._context.settings.handover_timeout_s:
            return [DuePartition(partition=partition, requested=True) for partition in partitions]
        return await self._context.leases.due_for_handover(self.variant, partitions)

    async def _acquire(self, partitions: set[int]) -> set[int]:
        try:
            return await self._context.leases.acquire(self.variant, partitions)
        except StoreConflict as error:  # the variant is being deleted; its row will follow
            log.warning("no leases for %s: %s", self.variant, error)
            return set()

    async def _hand_over(self, instance: Instance, partitions: frozenset[int]) -> None:
        if partitions:
            instance.hide_partitions(partitions)
            self._context.trigger.change()
            settings = self._context.settings
            # A query that hangs must fail here, not at the next owner.
            hung_s = _LIMITS * settings.compute_limit_s if self._context.replacement.wanted else 0.0
            await instance.assign(instance.partitions - partitions, max(settings.drain_timeout_s, hung_s))
            await self._context.leases.release(self.variant, partitions)
            self._context.trigger.change()

    async def _wait(self, at_most_s: float | None) -> None:
        if await wait_within(at_most_s, self._updated):
            self._updated.clear()

    async def _set_state(self, state: InstanceState, reason: str = "") -> None:
        self._state = state
        if self._instance is not None:
            self._instance.work.state = state
        context = self._context
        context.trigger.change()
        if self._row is None:
            return
        try:
            await report_instance_state(context.pool, context.settings.worker, self.variant, state, reason)
        except StoreUnavailable as error:  # the status record reports it as well
            log.debug("state of %s not reported: %s", self.variant, error)


def _as_registered(catalog: Catalog, variant: str) -> tuple[Variant | None, Profile | None]:
    return catalog.variants.get(variant), catalog.profiles.get(variant)
