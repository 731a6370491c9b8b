"""Instance that computes batches: the path of a query from the record to the acknowledged result.

    event loop     _queue_up   records -> _read (`variant_instance`): identify and decode the query -> batch queue
    slot's thread  next_batch  called by the executor when a slot is free and no other instance is more urgent
                   Computation stack, infer, unstack
    event loop     _answer     encode -> outbox -> (acknowledged) -> _done: the record may be committed

Rules.
* There are five long-lived tasks and no task per query: two read, one answers, one resends unacknowledged answers, and
  one has large bodies decoded and encoded in a thread, one at a time, so that other queries do not wait for them.
* No offline query is read while an online one waits (`offline_throttle`).
* The slot's thread only computes. JSON and headers are handled on the event loop; the slots never wait for them.
* A query fails alone: its error is found while it is read, or by `computation`.

Hot path: `_queue_up`, `next_batch` and `_answer`. A query costs one hop to the thread and one back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

from broker.delivery.consumer import Consumer, Record
from schemas import headers as h
from schemas.errors import DeadlineExceeded, QueryError
from schemas.status import InstanceStatus
from workers.context import WorkerContext
from workers.serving.codec import decode_query
from workers.serving.computation import ComputableBatch, Computation, ComputedBatch
from workers.serving.corrected_profile import CorrectedProfile
from workers.serving.instance_work import InstanceWork
from workers.serving.loading import footprint_of
from workers.serving.model import LoadedModel, ServableModel
from workers.serving.pending_query import Arrays, PendingQuery, QueryPart, tensor_bytes
from workers.serving.variant_instance import VariantInstance
from workers.slots.batch_queue import BatchQueue, Urgency
from workers.slots.crash_journal import RecordKey

_LARGE_BYTES: Final = 256 * 1024
"""Bytes from which on a body is decoded in a thread."""


class ServingInstance(VariantInstance[InstanceWork[RecordKey, QueryPart], QueryPart]):
    """Instance that computes batches in the slots of the executor."""

    def __init__(
        self,
        model: ServableModel,
        loaded: LoadedModel,
        online: Consumer,
        offline: Consumer,
        profile: CorrectedProfile,
        context: WorkerContext,
    ) -> None:
        footprint = footprint_of(model, context.settings)
        self.width, self.parallel, self.is_concurrent = footprint
        self._executor = executor = context.executor
        self._queue: BatchQueue[QueryPart] = BatchQueue(model.latency, executor.arrivals, executor.turn)
        work: InstanceWork[RecordKey, QueryPart] = InstanceWork(
            self._queue, footprint, time.monotonic(), lengths_vary=model.lengths.varies
        )
        super().__init__(model, work, online, offline, context)
        # Both queues are bounded by the records that the consumers hand out.
        self._computed: asyncio.Queue[ComputedBatch] = asyncio.Queue()
        self._large: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        """Decoding and encoding of large bodies that waits."""
        self._computation = Computation(model, loaded, context, self._computed.put_nowait, self._compute_alone)
        self._suspect_waits = False
        """True if the most urgent work is a suspect that must wait for another suspect to end."""
        self._profile = profile

    async def serve(self) -> None:
        """Serve until cancelled."""
        self._executor.add_source(self)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_in(), name=f"{self.model.name} take in")
                tasks.create_task(self._take_in_offline(), name=f"{self.model.name} take in offline")
                tasks.create_task(self._answer(), name=f"{self.model.name} answer")
                tasks.create_task(self._handle_large(), name=f"{self.model.name} large bodies")
                tasks.create_task(self._answers.retry_failed(), name=f"{self.model.name} retry")
        finally:
            self._executor.remove_source(self)

    # -- input ---------------------------------------------------------------------------------------------------------

    def _offline_room(self, now_s: float) -> tuple[int, float | None]:
        room = self.work.offline_room(now_s, online=self._executor.expects_online(now_s))
        return room, self.work.throttle.look_again_s(now_s)

    async def _queue_up_offline(self, records: list[Record]) -> None:
        inputs, now_s = await self._queue_up(records), time.monotonic()
        online = self._executor.expects_online(now_s)
        share, input_s = self._executor.offline_share(), self.model.latency.input_s()
        self.work.throttle.took(len(records), inputs, input_s, online=online, now_s=now_s, share=share)

    async def _queue_up(self, records: list[Record]) -> int:
        inputs = 0
        for record in records:
            if len(record.value or b"") > _LARGE_BYTES:
                self._large.put_nowait(partial(self._queue_up_large, record))
            elif record.partition in self.partitions:
                inputs += self._add(await self._read(record))
        return inputs

    async def _queue_up_large(self, record: Record) -> None:
        if record.partition in self.partitions:
            parts = await self._read(record, in_thread=True)
            if record.partition in self.partitions:
                self._add(parts)

    def _add(self, parts: list[QueryPart]) -> int:
        """Queue the parts of a query. Returns the number of its inputs."""
        if not parts:
            return 0
        query = parts[0].query
        with self._executor.lock:
            if query.is_large:
                self._queue.add_large(query.fields.get(h.TENANT, ""), parts, time.monotonic())
            else:
                self._queue.add(parts[0])
        self._executor.wake_soon()
        return query.batch

    async def _handle_large(self) -> None:
        while True:
            await (await self._large.get())()

    def _decode(self, query: PendingQuery, offset_ms: float, *, alone: bool) -> list[QueryPart]:
        return decode_query(query, self.model, offset_ms, alone=alone)

    def _arrived(self, key: RecordKey, query: PendingQuery, parts: list[QueryPart]) -> None:
        tensors = sum(tensor_bytes(part.tensors) for part in parts)
        self._answers.hold(query.record, len(query.record.value or b"") + tensors)
        self.work.arrived(key, query.batch, large=query.is_large, offline=parts[0].offline)
        query.large_inputs = self.work.backlog.large

    # -- computation: called by the executor with its lock held, unless a docstring differs ----------------------------

    def urgency(self) -> Urgency | None:
        """Return the urgency of the most urgent work; None if none waits, or if it must wait for a suspect to end."""
        if self._computation.broken or (self._suspect_waits and self._journal.has_suspect):
            return None
        return self._queue.urgency()

    def next_batch(self, slots: int, now_s: float) -> ComputableBatch | None:
        """Take the next batch out of the queue, if `slots` batches may begin now."""
        batch, expired = self.work.next_batch(slots, now_s)
        if expired:
            self._computation.post(ComputedBatch(expired, [DeadlineExceeded()] * len(expired)))
        batch = [part for part in batch if not part.query.answered]
        self._suspect_waits = self._journal.has_suspect and any(map(self._computation.is_suspect, batch))
        if self._suspect_waits:
            for part in batch:
                self._queue.add(part)
            return None
        return self._computation.batch(batch, self.work.predicted_s(batch)) if batch else None

    def _compute_alone(self, parts: list[QueryPart]) -> None:
        """Compute the parts of a batch that never ends again, each in a batch of its own."""
        with self._executor.lock:
            for part in parts:
                part.shape = (part.shape, part.query.record.partition, part.query.record.offset)
                self._queue.add(part)
        self._executor.wake_soon()

    # -- output --------------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        while True:
            computed = await self._computed.get()
            self._progress.set()
            self._measure(computed, None if self._spans is None else self._spans.computed(computed))
            for part, result in zip(computed.parts, computed.results, strict=True):
                if not part.query.answered:  # else another part of the query has failed
                    await self._answer_part(part, result, computed)

    async def _answer_part(self, part: QueryPart, result: Arrays | QueryError, computed: ComputedBatch) -> None:
        query = part.query
        if isinstance(result, QueryError):
            await self._answers.refuse(query, result)
            if query.is_large:
                self._forget(query)
        elif query.add(part.number, result, computed.started_ns, computed.compute_ns):
            if query.is_large:
                self._large.put_nowait(partial(self._send_large_result, query))
            else:
                await self._answers.send_result(query)

    def _measure(self, computed: ComputedBatch, exemplar: dict[str, str] | None) -> None:
        if not computed.started_ns or any(isinstance(result, QueryError) for result in computed.results):
            return
        parts, seconds, slot = computed.parts, computed.compute_ns / 1e9, computed.slot
        self._metrics.count_batch(sum(part.inputs for part in parts), seconds, exemplar)
        if parts[0].query.is_large:
            self.work.meter.interrupted(slot)
            return
        left, now_s = self._queue.online_inputs > 0 or self._unread() > 0, time.monotonic()
        predicted_s = self.work.computed(parts, seconds, now_s, slot=slot, consecutive=computed.consecutive, left=left)
        if not computed.shared:
            self._profile.computed(self.model.latency, seconds, predicted_s, now_s)

    async def _send_large_result(self, query: PendingQuery) -> None:
        await self._answers.send_result(query, in_thread=True)
        seconds = time.monotonic() - query.sent_ns / 1e9
        self.work.meter.large_answered(seconds, self.model.latency.query_s(max(query.large_inputs, query.batch)))

    def _forget(self, query: PendingQuery) -> None:
        with self._executor.lock:
            self._queue.discard([part for part in self._queue.waiting() if part.query is query])

    # -- changes from outside ------------------------------------------------------------------------------------------

    def use_model(self, model: ServableModel) -> None:
        """Use the batch size limit and the latency of this model from now on."""
        super().use_model(model)
        with self._executor.lock:
            self.work.use_latency_model(model.latency, lengths_vary=model.lengths.varies)
            self._computation.use_latency_model(model.latency)

    def _discard(self, partitions: Collection[int]) -> None:
        with self._executor.lock:
            self._queue.discard([p for p in self._queue.waiting() if p.query.record.partition in partitions])

    def status(self) -> InstanceStatus:
        """Return the current status of the instance."""
        with self._executor.lock:
            waiting = self._queue.waiting_online()
        done_inputs = self._executor.done_inputs(self)
        return self.work.with_batches(
            super().status(), waiting=waiting, done_inputs=done_inputs, now_s=time.monotonic()
        )
