"""Steps that online and offline dispatchers share: each record is forwarded, refused or made a dead letter.

A record is done when its forwarding, its error result or its dead letter is acknowledged (`broker/outbox.py`). If a
query could not be forwarded, another choice is made, because another instance may take it; after `attempts` it becomes
a dead letter.
"""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from broker.delivery.consumer import Consumer, Record
from broker.online_arrivals import OnlineArrivals
from broker.outbox import Message, Outbox
from broker.producer import Ack, Producer
from broker.reply_stream.sender import ResultSender
from process.cpu_meter import CpuMeter
from schemas import headers as h
from schemas.errors import Forbidden, Internal, Overloaded, QueryError, RefusalReason, UnknownTask, Unsatisfiable
from schemas.topics import LANES, is_offline, offline_of, task_of
from security.signature import LARGE_BYTES
from selector.choice import Choice, PolicyConfig, Refusal
from selector.cluster_state import ClusterState
from selector.demand_sender import DemandSender
from selector.explain import explain
from selector.forbidden_sampler import KEEP_BYTES, ForbiddenSampler
from selector.forward import forwarded, moved, refused
from selector.load_meter import LoadMeter
from selector.metrics import SelectorMetrics
from selector.proof import Replayed, signed_digest
from selector.received_query import QueryReader, ReceivedQuery, error_result

log = logging.getLogger(__name__)

_Read: TypeAlias = Callable[[Record, float, str | None], ReceivedQuery]
_NO_TASK: Final = "-"
"""Label in metrics for names that are not tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchContext:
    """Resources that the dispatchers of a selector share."""

    state: ClusterState
    config: PolicyConfig
    producer: Producer
    metrics: SelectorMetrics
    load_meter: LoadMeter
    demands: DemandSender
    streams: ResultSender
    reader: QueryReader = field(default_factory=QueryReader)
    forbidden: ForbiddenSampler = field(default_factory=lambda: ForbiddenSampler(time.monotonic()))
    rhythm: OnlineArrivals = field(default_factory=OnlineArrivals)
    cpu: CpuMeter = field(default_factory=CpuMeter)
    attempts: int = 3


class DispatcherBase(ABC):
    """Dispatcher of the records of one consumer."""

    def __init__(self, context: DispatchContext, consumer: Consumer) -> None:
        self._consumer = consumer
        self._state = context.state
        self._config = context.config
        self._producer = context.producer
        self._clock = context.producer.clock
        self._metrics = context.metrics
        self._load_meter = context.load_meter
        self._demands = context.demands
        self._reader = context.reader
        self._forbidden = context.forbidden
        self._rhythm = context.rhythm
        self._cpu = context.cpu
        self._outbox = Outbox(
            context.producer, self._done, self._reader.unreadable_reply, max_attempts=context.attempts,
            decide_again=self.take, streams=context.streams, proved_tenant=self._reader.proved_tenant,
            places=consumer.max_in_flight,
        )  # fmt: skip
        self.retry_failed = self._outbox.retry_failed
        """Repeats unacknowledged sends; runs in the background until cancelled."""

    @abstractmethod
    async def take(self, record: Record, attempts: int = 1) -> None:
        """Take a record, the first time or again (`attempts`); no error of the record is raised."""

    async def _read(self, record: Record, attempts: int, read: _Read) -> ReceivedQuery | None:
        """Read the query in a record by `read`; None if it is unreadable or a replay, which are handled here."""
        try:
            digest = await signed_digest(record) if len(record.value or b"") > LARGE_BYTES else None
            return read(record, self._consumer.offset_ms(record), digest)
        except Replayed:
            self._pass_over(record)
        except QueryError as error:
            await self._reject(record, error, attempts)
        except Exception as error:
            log.error("%s: record %d/%d", record.topic, record.partition, record.offset, exc_info=error)
            await self._reject(record, Internal("the query could not be read"), attempts)
        return None

    async def _forward(
        self, record: Record, received: ReceivedQuery, choice: Choice, topic: str, now: float, attempts: int, *,
        copied: bool = False,
    ) -> None:  # fmt: skip
        """Forward a query to the chosen partition of a topic of the chosen variant."""
        query, _fields, headers, value = received
        explanation = explain(query, self._state, now, self._config, choice) if query.needs.explain else None
        if attempts == 1:
            tenant_class = self._state.tenant_class_of(query)
            self._load_meter.forwarded(query, choice.variant.name, choice.upgraded, tenant_class)
        offset_ms = self._producer.offset_ms(topic, choice.partition.number)
        sent_headers = forwarded(query, choice, headers, now, offset_ms, explanation, copied=copied)
        message = Message(topic, value, sent_headers, query.id.encode(), choice.partition.number)
        instance, offline = choice.instance, choice.partition.offline
        large = query.batch if instance is not None and not offline and instance.model.is_large(query.batch) else 0
        await self._outbox.send(record, message, attempts, partial(self._acknowledged, choice, large))

    def _acknowledged(self, choice: Choice, large_inputs: int, written: Ack | None) -> None:
        if written is None:
            self._state.failed(choice.partition, large_inputs)
        else:
            now = time.monotonic()
            self._state.acknowledged(choice.instance, choice.partition, written.offset, now, large_inputs)

    async def _refuse(
        self, record: Record, received: ReceivedQuery, refusal: Refusal, now: float, attempts: int
    ) -> None:
        """Answer a query that nothing can serve with an error result."""
        query, error = received.query, refusal.error
        self._count(query.task, error.code, error.reason)
        if attempts == 1 and not isinstance(error, (UnknownTask, Unsatisfiable)):
            self._load_meter.refused(query, isinstance(error, Overloaded), self._state.tenant_class_of(query))
        explanation = explain(query, self._state, now, self._config, refusal) if query.needs.explain else None
        headers = refused(query, error, received.fields, now, explanation)
        reply = error_result(query.reply_to, error, headers, received.fields)
        if self._state.seen_in(query) is not None:
            await self._outbox.send(record, reply, attempts)
        else:
            self._outbox.give_up(record, str(error), reply, attempts)
        if refusal.wanted is not None:
            await self._demands.send(query.task, refusal.wanted, now, "a query was refused for want of it")

    async def _move(
        self, record: Record, received: ReceivedQuery, attempts: int, lane: int | None = None
    ) -> None:  # fmt: skip
        """Send a query to the end of the offline topic beside its own, or to a lane."""
        query, fields, headers, value = received
        sent_headers = moved(query, headers, self._clock.offset_ms)
        if h.SIGNATURE in fields:  # the old signature has expired and does not cover the offline mode
            sent_headers = await self._reader.verifier.sign(query, sent_headers, value, self._clock.now_ms())
        topic = record.topic if is_offline(record.topic) else offline_of(record.topic)
        message = Message(topic if lane is None else LANES, value, sent_headers, query.id.encode(), lane)
        await self._outbox.send(record, message, attempts)

    async def _reject(self, record: Record, error: QueryError, attempts: int) -> None:
        """Make an unreadable record a dead letter, and send an error result if its reply topic is known."""
        self._count(task_of(record.topic), error.code, error.reason)
        reply = self._reader.unreadable_reply(record, error)
        if not isinstance(error, Forbidden):
            self._outbox.give_up(record, str(error), reply, attempts)
        elif self._forbidden.take(time.monotonic()):
            self._outbox.give_up(record, str(error), reply, attempts, keep_bytes=KEEP_BYTES)
        elif reply is not None:
            # Counted as a dead letter: if the reply cannot be sent, none is written either.
            await self._outbox.send(record, reply, attempts, is_dead_letter=True)
        else:
            self._consumer.done(record)

    def _pass_over(self, record: Record) -> None:
        """Mark a replayed record as done; its original is answered."""
        self._count(task_of(record.topic), "replayed")
        self._consumer.done(record)

    def _count(self, task: str, outcome: str, reason: RefusalReason | None = None) -> None:
        """Count a query; unregistered task names share one label, which bounds the number of metrics."""
        self._metrics.decided(task if task in self._state.tasks else _NO_TASK, outcome, reason)

    def _done(self, record: Record, _sent: Message | None) -> None:
        self._consumer.done(record)
