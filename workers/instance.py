"""One variant that is loaded here: takes queries of its partitions, computes them in batches, sends the results.

    consumer -> read -> window -> (slot thread) plan, stack, infer, unstack -> answer -> outbox -> consumer.done

Rules.
* Three long-lived tasks and no task per query: one takes in, one answers, one mends what could not be sent.
* The slot's thread only computes; JSON and headers are the event loop's, so that the device is never kept waiting.
* A query fails alone. What is wrong with it is found while reading; a batch that raises is computed again one by one.
* A partition that was taken from us is forgotten at once: what of it waits is not computed, what comes is not read.

Hot: `_read`, `_compute` and `_deliver`. Per query at low load the way costs one hop to the thread and one back.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, NamedTuple

from broker.consumer import Consumer, Record
from broker.producer import Producer
from runtimes.protocol import Session
from schemas.errors import DeadlineExceeded, Internal, InvalidRequest, ModelFailed, QueryError
from schemas.status import InstanceState, InstanceStatus, PartitionStatus
from schemas.topics import variant_topic
from workers.answers import AnswerMeter
from workers.batching import Urgency, Window
from workers.device import Device
from workers.health import Meter, Reading, next_state
from workers.journal import Journal, place_of
from workers.metrics import InstanceMetrics
from workers.model import Model
from workers.outbox import Outbox
from workers.request import Arrays, Part, Query, Undecodable, address, answer, read, refusal, stack, unstack

log = logging.getLogger(__name__)

_CHUNK: Final = 32
"""Records read before the event loop does something else."""
_PERIOD_S: Final = 1.0
_BRIEF_S: Final = 0.0002
"""About what a hop to a thread and back costs: two wake-ups, and two waits for the interpreter's lock."""


class Outcome(NamedTuple):
    """What became of a part."""

    part: Part
    result: Arrays | QueryError
    started_ns: int = 0
    compute_ns: int = 0


class Instance:
    """Serves from `serve()` on, the partitions given by `assign`."""

    def __init__(
        self, model: Model, session: Session, consumer: Consumer, producer: Producer, device: Device, journal: Journal,
        worker: str, answers: AnswerMeter,
    ) -> None:  # fmt: skip
        self.model = model
        self.state = InstanceState.ACTIVE
        self.partitions: frozenset[int] = frozenset()
        self._hidden: frozenset[int] = frozenset()
        self._session = session
        self._consumer = consumer
        self._device = device
        self._journal = journal
        self._worker = worker
        self._answers = answers
        self._metrics = InstanceMetrics(model.name)
        self._outbox = Outbox(producer, self._done, self._metrics)
        self._window: Window[Part] = Window(model.latency)
        self._meter = Meter()
        self._period_began = time.monotonic()
        self._outcomes: deque[list[Outcome]] = deque()
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._held: dict[tuple[int, int], tuple[int, int]] = {}
        """Online and offline inputs, by partition and offset, of what is read and not answered."""
        self._held_online = 0
        self._held_offline = 0
        self._answered = self._inputs = self._late = self._expired = 0

    async def serve(self) -> None:
        """Work until cancelled."""
        self._device.admit(self)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take_in(), name=f"{self.model.name} take in")
                tasks.create_task(self._answer(), name=f"{self.model.name} answer")
                tasks.create_task(self._outbox.mend(), name=f"{self.model.name} mend")
        finally:
            self._device.dismiss(self)

    async def assign(self, partitions: Collection[int], drain_s: float) -> None:
        """Serve exactly these partitions. Others are drained for up to `drain_s`, committed and forgotten."""
        wanted = frozenset(partitions)
        self.partitions |= wanted
        await self._consumer.assign(variant_topic(self.model.name), wanted, drain_s=drain_s)
        self.forget(self.partitions - wanted)
        self._hidden = frozenset()

    def hide(self, partitions: Collection[int]) -> None:
        """Tell nobody any more that these partitions are served here; `assign` without them must follow."""
        self._hidden = frozenset(partitions)

    def limit(self, model: Model) -> None:
        """Compute batches of at most the model's size from now on."""
        self.model = model
        with self._device.lock:
            self._window.limit(model.latency)

    def forget(self, partitions: Collection[int]) -> None:
        """These partitions are no longer ours: compute nothing more of them. `assign` must follow."""
        self.partitions -= frozenset(partitions)
        if not partitions:
            return
        with self._device.lock:
            self._window.discard([p for p in self._window.waiting() if p.query.record.partition in partitions])
        for place in [place for place in self._held if place[0] in partitions]:
            self._drop(place)

    # -- what others see -----------------------------------------------------------------------------------------------

    def status(self) -> InstanceStatus:
        """The state now."""
        meter = self._meter
        return InstanceStatus(
            variant=self.model.name,
            state=self.state,
            partitions=tuple(self._partition_status()),
            queued=self._consumer.in_flight,
            queued_inputs=self._held_online + self._held_offline,
            queued_offline_inputs=self._held_offline,
            max_batch=self.model.latency.max_batch,
            batch_size=meter.batch_size,
            batch_s=meter.batch_s,
            slowdown=meter.slowdown,
            answered=self._answered,
            inputs=self._inputs,
            late=self._late,
            expired=self._expired,
        )

    @property
    def backlog_s(self) -> float:
        """Predicted seconds of the online queries that are read and not answered."""
        return self.model.latency.batch_s(self._held_online) * self._meter.slowdown

    def observe(self, now_s: float) -> bool:
        """Judge the instance's health once a period, by the monotonic clock; returns whether its state changed."""
        elapsed = now_s - self._period_began
        if elapsed < _PERIOD_S:
            return False
        meter, latency = self._meter, self.model.latency
        meter.period(elapsed, latency.input_s())
        self._period_began = now_s
        unread = sum(status.end - status.position for status in self._partition_status())
        online = self._window.online_inputs + unread * meter.online_per_query
        before = self.state
        self.state = next_state(before, Reading(meter.slowdown, meter.load, online * latency.input_s()))
        return self.state is not before

    def _partition_status(self) -> list[PartitionStatus]:
        found: list[PartitionStatus] = []
        for partition in sorted(self.partitions - self._hidden):
            position, end = self._consumer.position(partition), self._consumer.end(partition)
            if position is not None:
                found.append(PartitionStatus(partition, position, position if end is None else end))
        return found

    # -- in ------------------------------------------------------------------------------------------------------------

    async def _take_in(self) -> None:
        while True:
            parts: list[Part] = []
            records = await self._consumer.batch(_CHUNK)
            for record in records:
                parts += await self._read(record)
            if parts:
                with self._device.lock:
                    for part in parts:
                        self._window.add(part)
                self._device.wake()
            if (
                len(records) == _CHUNK
            ):  # more may be here already, and would come without waiting: let others have a turn
                await asyncio.sleep(0)

    async def _read(self, record: Record) -> list[Part]:
        """The work in a record; a record without any is finished here."""
        if record.partition not in self.partitions:
            return []
        try:
            query = address(record, self.model.variant.task)
        except Undecodable as error:
            self._outbox.bury(record, str(error))
            return []
        try:
            crashes = self._journal.crashes(place_of(record))
            if self._journal.given_up(place_of(record)):
                raise ModelFailed(f"the worker died {crashes} times while computing this query")
            parts = read(query, self.model, alone=crashes > 0)
        except QueryError as error:
            await self._refuse(query, error)
            return []
        except Exception:  # a defect of our codec must cost this query, not the worker again and again
            log.exception("cannot read query %s", query.id)
            await self._refuse(query, Internal("the request could not be read"))
            return []
        self._hold((record.partition, record.offset), query.batch, offline=parts[0].offline)
        return parts

    def _hold(self, place: tuple[int, int], inputs: int, *, offline: bool) -> None:
        online = 0 if offline else inputs
        self._held[place] = (online, inputs - online)
        self._held_online += online
        self._held_offline += inputs - online
        self._meter.arrived(online)

    def _drop(self, place: tuple[int, int]) -> None:
        online, offline = self._held.pop(place, (0, 0))
        self._held_online -= online
        self._held_offline -= offline

    # -- the slot's thread ---------------------------------------------------------------------------------------------

    def urgency(self) -> Urgency | None:
        """As of the device's protocol."""
        return self._window.urgency()

    def brief(self) -> bool:
        """As of the device's protocol."""
        inputs = min(self._window.inputs, self._window.best_batch)
        return self.model.latency.batch_s(inputs) * self._meter.slowdown < _BRIEF_S

    def plan(self) -> Callable[[int], None] | None:
        """As of the device's protocol."""
        batch, expired = self._window.plan(time.time(), self._meter.slowdown)
        if expired:
            self._post([Outcome(part, DeadlineExceeded()) for part in expired])
        batch = [part for part in batch if not part.query.answered]
        return partial(self._compute, batch) if batch else None

    def _compute(self, parts: list[Part], slot: int) -> None:
        self._journal.begin(slot, [place_of(part.query.record) for part in parts])
        started_ns, began = time.time_ns(), time.perf_counter_ns()
        results = self._infer(parts)
        compute_ns = time.perf_counter_ns() - began
        self._journal.end(slot)
        self._post([Outcome(part, result, started_ns, compute_ns) for part, result in zip(parts, results, strict=True)])

    def _infer(self, parts: list[Part]) -> list[Arrays | QueryError]:
        try:
            return [*unstack(parts, self._session.infer(stack(parts)))]
        except Exception as error:  # noqa: BLE001 - a runtime raises what it likes; only the query to blame shall fail
            if len(parts) == 1:
                return [ModelFailed(f"the model failed on this input: {str(error)[:500]}")]
        return [result for part in parts for result in self._infer([part])]

    def _post(self, outcomes: list[Outcome]) -> None:
        if threading.get_ident() == self._loop_thread:
            self._receive(outcomes)
        else:
            self._loop.call_soon_threadsafe(self._receive, outcomes)

    # -- out -----------------------------------------------------------------------------------------------------------

    def _receive(self, outcomes: list[Outcome]) -> None:
        self._outcomes.append(outcomes)
        self._news.set()

    async def _answer(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._outcomes:
                outcomes = self._outcomes.popleft()
                self._measure(outcomes)
                for outcome in outcomes:
                    await self._deliver(outcome)

    def _measure(self, outcomes: list[Outcome]) -> None:
        seconds = outcomes[0].compute_ns / 1e9
        inputs = sum(outcome.part.inputs for outcome in outcomes)
        if outcomes[0].started_ns and not any(isinstance(outcome.result, QueryError) for outcome in outcomes):
            self._meter.computed(inputs, seconds, self.model.latency.batch_s(inputs))
            self._metrics.computed(inputs, seconds)

    async def _deliver(self, outcome: Outcome) -> None:
        part, result, started_ns, compute_ns = outcome
        query = part.query
        if query.answered:
            return
        if isinstance(result, QueryError):
            await self._refuse(query, result)
            return
        query.started_ns = query.started_ns or started_ns
        query.compute_ns += compute_ns
        query.outputs[part.number] = result
        query.undone -= 1
        if query.undone:
            return
        try:
            value, headers = answer(query, self.model.name, self._worker)
        except (InvalidRequest, TypeError) as error:
            await self._refuse(query, error if isinstance(error, InvalidRequest) else ModelFailed(str(error)))
            return
        query.answered = True
        late = time.time() > query.deadline_s
        self._inputs += query.batch
        self._late += late
        self._answers.computed(self.model.variant.task, query.asked, late=late)
        self._metrics.queued(max(query.started_ns - query.sent_ns, 0) / 1e9)
        await self._outbox.send(query, value, headers)

    async def _refuse(self, query: Query, error: QueryError) -> None:
        query.answered = True
        self._answers.failed(self.model.variant.task, query.asked)
        self._expired += isinstance(error, DeadlineExceeded)
        if isinstance(error, ModelFailed) and self._journal.given_up(place_of(query.record)):
            self._outbox.bury(query.record, str(error), self._journal.crashes(place_of(query.record)), finishes=False)
        value, headers = refusal(query, error, self.model.name, self._worker)
        await self._outbox.send(query, value, headers, error.code.value)

    def _done(self, record: Record) -> None:
        self._consumer.done(record)
        self._answered += 1
        self._drop((record.partition, record.offset))
        self._journal.clear(place_of(record))
