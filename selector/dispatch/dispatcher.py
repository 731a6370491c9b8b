"""Steps that online and offline dispatchers share: each record is forwarded, refused or made a dead letter.

A record is done when its forwarding, its error result or its dead letter is acknowledged
(`broker/delivery/outbox.py`). If a query could not be forwarded, another choice is made, because another instance may
take it; after `attempts` it becomes a dead letter.

A query is forwarded with the client's headers, except the headers that the selector sets itself: a client cannot claim
an accuracy, a price or a prediction. A signature is kept although it no longer matches the headers. Its presence shows
that it was verified, so a dead letter can be attributed to its tenant.

Dead letters are kept for weeks, because an operator may fix their cause and replay them. A forbidden record (a forged
name or signature, another tenant's topic) is a refusal, and its sender is answered if that is possible. Only a sample
is kept for inspection: the first ones, then one per interval, and only the beginning of a large one. All are counted
(`infaas_selector_decisions_total`, outcome `forbidden`).
"""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from broker.arrivals import OnlineArrivals
from broker.delivery.consumer import Consumer, Record
from broker.delivery.outbox import Message, Outbox
from broker.kafka.types import KafkaError
from broker.producing.producer import Ack, BatchedAck, Producer
from broker.replies.sender import ResultSender
from process.cpus import CpuMeter
from process.security.signature import LARGE_BYTES
from schemas import headers as h
from schemas.errors import Forbidden, Internal, Overloaded, QueryError, RefusalReason, UnknownTask, Unsatisfiable
from schemas.headers import RawHeaders
from schemas.query import Mode, Query
from schemas.status import Demand
from schemas.topics import DEMAND, LANES, is_offline, offline_of, task_of
from selector.admission.received_query import QueryReader, ReceivedQuery, error_result
from selector.admission.signatures import Replayed, signed_digest
from selector.dispatch.explanation import explain
from selector.dispatch.load_meter import LoadMeter
from selector.dispatch.metrics import SelectorMetrics
from selector.dispatch.spans import DecisionSpans
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.variants import PricedVariant

log = logging.getLogger(__name__)

_OWN: Final = frozenset(
    {
        h.TASK, h.SENT_NS, h.TASK_QUEUE_NS, h.PREDICTED_NS, h.ACCURACY, h.COST, h.EXPLANATION, h.DEADLINE_MS,
        h.REPLY_TO, h.STATUS, h.VARIANT, h.WORKER, h.VARIANT_QUEUE_NS, h.COMPUTE_NS, h.RETRY_AFTER_MS,
        h.REASON, h.REJECTED_UPSTREAM, h.REJECTED_UPSTREAM_PROOF, h.LINGER_NS, h.COPIED, h.LATE, h.CHOICE, h.PART,
    }
)  # fmt: skip
_NOT_MOVED: Final = frozenset(
    {
        h.MODE, h.DEADLINE_MS, h.SENT_NS, h.LINGER_NS, h.SIGNATURE, h.REJECTED_UPSTREAM, h.REJECTED_UPSTREAM_PROOF,
        h.TASK, h.REPLY_TO,
    }
)  # fmt: skip
_MODE: Final = (h.MODE, Mode.OFFLINE.value.encode())


def forwarded(
    query: Query,
    choice: Choice,
    received: Iterable[tuple[str, bytes]],
    now: float,
    offset_ms: float,
    explanation: bytes | None,
    *,
    copied: bool = False,
) -> RawHeaders:
    """Return the headers of a query to the chosen variant; `copied` marks a result that is to be compared.

    `now` is of the selector's own clock, as are the query's times; `offset_ms` converts them to the broker's clock,
    which is sent.
    """
    headers = [pair for pair in received if pair[0] not in _OWN]
    variant, queued_ns, predicted_ns = choice.variant, _queued_ns(query, now), choice.predicted_s * 1e9
    headers += (
        variant.task_header,
        (h.REPLY_TO, query.reply_to.encode()),
        (h.SENT_NS, b"%d" % ((now * 1e3 + offset_ms) * 1e6)),
        (h.CHOICE, b"%b %b %d %d" % (variant.name_and_accuracy, choice.cost_header, queued_ns, predicted_ns)),
    )
    if query.deadline_ms is not None:
        headers.append((h.DEADLINE_MS, b"%.3f" % (query.deadline_ms + offset_ms)))
    if explanation is not None:
        headers.append((h.EXPLANATION, explanation))
    if copied:
        headers.append((h.COPIED, b"true"))
    return headers


def moved(query: Query, received: Iterable[tuple[str, bytes]], offset_ms: float) -> RawHeaders:
    """Return the headers of a query that is moved to the offline topic's end or to a lane.

    Its deadline is sent by the broker's clock, because no header names another clock any more. Task and reply topic are
    set as headers, because a lane holds queries of all tasks.
    """
    headers = [pair for pair in received if pair[0] not in _NOT_MOVED]
    headers += (_MODE, (h.TASK, query.task.encode()), (h.REPLY_TO, query.reply_to.encode()))
    if query.deadline_ms is not None:
        headers.append((h.DEADLINE_MS, b"%.3f" % (query.deadline_ms + offset_ms)))
    return headers


def _queued_ns(query: Query, now: float) -> int:
    return max(int((now * 1e3 - query.sent_ms) * 1e6), 0)


_encode: Final = msgspec.json.Encoder().encode


class DemandSender:
    """Sender of demands. A lost demand is repeated by the next query."""

    def __init__(self, producer: Producer, interval_s: float) -> None:
        """Send at most one demand per variant in each `interval_s`."""
        self._producer = producer
        self._interval_s = interval_s
        self._sent_at: dict[str, float] = {}

    async def send(self, task: str, variant: PricedVariant, now: float, reason: str) -> None:
        """Demand an instance of `variant`, unless that was done within the interval."""
        if now - self._sent_at.get(variant.name, -math.inf) < self._interval_s:
            return
        self._sent_at[variant.name] = now
        demand = Demand(task=task, variant=variant.name, at_ms=self._producer.clock.now_ms(), reason=reason)
        await self._producer.post(DEMAND, _encode(demand), _log_loss, key=variant.name.encode())


def _log_loss(outcome: Ack | KafkaError) -> None:
    if isinstance(outcome, KafkaError):
        log.warning("a demand was not acknowledged: %r", outcome)


MOST_AT_ONCE: Final = 100
EACH_S: Final = 10.0
"""Seconds until one more is kept: about 240,000 in four weeks."""
KEEP_BYTES: Final = 4096
"""Bytes kept of a larger record: it is inspected, never replayed."""


class ForbiddenSampler:
    """Token bucket for the forbidden records of a selector."""

    def __init__(self, now_s: float) -> None:
        self._left = float(MOST_AT_ONCE)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take a token; return true if the record is to be kept."""
        self._left = min(self._left + (now_s - self._at_s) / EACH_S, MOST_AT_ONCE)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


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
    spans: DecisionSpans | None = None
    """None: traces are off."""
    reader: QueryReader = field(default_factory=QueryReader)
    forbidden: ForbiddenSampler = field(default_factory=lambda: ForbiddenSampler(time.monotonic()))
    online_arrivals: OnlineArrivals = field(default_factory=OnlineArrivals)
    cpu: CpuMeter = field(default_factory=CpuMeter)
    attempts: int = 3


class _Forwarding(BatchedAck):
    """Query on its way to a partition of its variant."""

    __slots__ = ("choice", "headers", "large", "received")

    def __init__(
        self, dispatcher: "DispatcherBase", received: ReceivedQuery, choice: Choice, headers: RawHeaders, large: int
    ) -> None:
        """Set `large` to the inputs of a large query, else to 0."""
        self.sink = dispatcher.on_forwarded
        self.received = received
        self.choice = choice
        self.headers = headers
        self.large = large


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
        self._spans = context.spans
        self._reader = context.reader
        self._forbidden = context.forbidden
        self._online_arrivals = context.online_arrivals
        self._cpu = context.cpu
        self._outbox = Outbox(
            context.producer,
            lambda record, _sent: consumer.done(record),
            self._reader.unreadable_reply,
            max_attempts=context.attempts,
            decide_again=self.take,
            streams=context.streams,
            proved_tenant=self._reader.proved_tenant,
            places=consumer.max_in_flight,
        )
        self.on_forwarded = self._on_forwarded
        """Sink of the outcomes of forwarded queries; one object, by which the producer tells sinks apart."""
        self.retry_failed = self._outbox.retry_failed
        """Repeats unacknowledged sends; runs in the background until cancelled."""

    @abstractmethod
    async def take(self, record: Record, attempts: int = 1) -> None:
        """Take a record, the first time or again (`attempts`); no error of the record is raised."""

    async def _read(self, record: Record, attempts: int, *, offline: bool = False) -> ReceivedQuery | None:
        """Read the query in a record; None if it is unreadable or a replay, which are handled here."""
        digest = await signed_digest(record) if len(record.value or b"") > LARGE_BYTES else None
        outcome = self._read_now(record, attempts, digest, offline=offline)
        if isinstance(outcome, QueryError):
            await self._reject(record, outcome, attempts)
            return None
        return outcome

    def _read_now(
        self, record: Record, attempts: int, digest: str | None = None, *, offline: bool = False
    ) -> ReceivedQuery | QueryError | None:
        """Read the query in a record; an error if it is unreadable, None if it is a replay, which is handled here.

        `digest` is that of a large value, see `signed_digest`.
        """
        try:
            offset_ms = self._consumer.offset_ms(record)
            return self._reader.read(record, offset_ms, digest, offline=offline, attempts=attempts)
        except Replayed:  # its original is answered
            self._count(task_of(record.topic), "replayed")
            self._consumer.done(record)
            return None
        except QueryError as error:
            return error
        except Exception as error:
            log.error("%s: record %d/%d", record.topic, record.partition, record.offset, exc_info=error)
            return Internal("the query could not be read")

    async def _forward(self, received: ReceivedQuery, choice: Choice, now: float, *, copied: bool = False) -> None:
        query = received.query
        span, passed_on = (None, received.headers) if self._spans is None else self._spans.begin(received, now)
        explanation = explain(query, self._state, now, self._config, choice) if query.needs.explain else None
        if received.attempts == 1:
            tenant_class = self._state.tenant_class_of(query)
            self._load_meter.forwarded(query, choice.variant.name, choice.upgraded, tenant_class)
        offline = choice.partition.offline
        topic = choice.variant.offline_topic if offline else choice.variant.topic
        offset_ms = self._producer.offset_ms(topic, choice.partition.number)
        sent_headers = forwarded(query, choice, passed_on, now, offset_ms, explanation, copied=copied)
        instance = choice.instance
        large = query.batch if instance is not None and not offline and instance.model.is_large(query.batch) else 0
        key = query.id.encode()
        on_ack = _Forwarding(self, received, choice, sent_headers, large)
        await self._producer.post(
            topic, received.value, on_ack, key=key, headers=sent_headers, partition=choice.partition.number
        )
        if span is not None:
            span.forwarded(query, choice, now)

    def _on_forwarded(self, forwardings: Sequence["_Forwarding"], outcome: Ack | KafkaError) -> None:
        """Count queries that were written in one batch, and mark them as done; have others sent again.

        `outcome` is the place of the first one, or why the only one was not written.
        """
        if isinstance(outcome, KafkaError):
            for forwarding in forwardings:
                self._on_not_forwarded(forwarding, outcome)
            return
        try:
            self._count_forwarded(forwardings, outcome.offset)
        finally:  # a defect in the accounts must not hold the records for ever
            self._consumer.done(*[forwarding.received.record for forwarding in forwardings])

    def _count_forwarded(self, forwardings: Sequence["_Forwarding"], offset: int) -> None:
        """Count queries as written, alike ones in one step."""
        now, queries, (first, *others) = time.monotonic(), 1, forwardings
        for forwarding in others:
            alike = forwarding.choice.partition is first.choice.partition
            if alike and forwarding.choice.instance is first.choice.instance and not (first.large or forwarding.large):
                queries += 1
                continue
            self._state.acknowledged(first.choice.instance, first.choice.partition, offset, now, first.large, queries)
            offset, first, queries = offset + queries if offset >= 0 else -1, forwarding, 1
        self._state.acknowledged(first.choice.instance, first.choice.partition, offset, now, first.large, queries)

    def _on_not_forwarded(self, forwarding: "_Forwarding", error: KafkaError) -> None:
        """Have a query that was not forwarded sent again, or decided on again."""
        received, choice = forwarding.received, forwarding.choice
        topic = choice.variant.offline_topic if choice.partition.offline else choice.variant.topic
        key, number = received.query.id.encode(), choice.partition.number
        try:
            self._state.failed(choice.partition, forwarding.large)
        finally:
            message = Message(topic, received.value, forwarding.headers, key, number)
            self._outbox.failed(received.record, message, received.attempts, error)

    async def _refuse(self, received: ReceivedQuery, refusal: Refusal, now: float) -> None:
        query, error, record, attempts = received.query, refusal.error, received.record, received.attempts
        self._count(query.task, error.code, error.reason)
        span = None if self._spans is None else self._spans.begin(received, now)[0]
        if attempts == 1 and not isinstance(error, (UnknownTask, Unsatisfiable)):
            self._load_meter.refused(query, isinstance(error, Overloaded), self._state.tenant_class_of(query))
        explanation = explain(query, self._state, now, self._config, refusal) if query.needs.explain else None
        more = [(h.TASK_QUEUE_NS, b"%d" % _queued_ns(query, now))]
        if explanation is not None:
            more.append((h.EXPLANATION, explanation))
        reply = error_result(query.reply_to, query.id, error, received.fields, more)
        if self._state.seen_in(query) is not None:
            await self._outbox.send(record, reply, attempts)
        else:
            self._outbox.give_up(record, str(error), reply, attempts)
        if span is not None:
            span.refused(query, refusal, now)
        if refusal.wanted is not None:
            await self._demands.send(query.task, refusal.wanted, now, "a query was refused because it is not loaded")

    async def _move(self, received: ReceivedQuery, lane: int | None = None) -> None:
        """Send a query to the end of the offline topic beside its own, or to a lane."""
        query, value, record = received.query, received.value, received.record
        sent_headers = moved(query, received.headers, self._clock.offset_ms)
        if h.SIGNATURE in received.fields:  # the old signature has expired and does not cover the offline mode
            sent_headers = await self._reader.verifier.sign(query, sent_headers, value, self._clock.now_ms())
        topic = record.topic if is_offline(record.topic) else offline_of(record.topic)
        message = Message(topic if lane is None else LANES, value, sent_headers, query.id.encode(), lane)
        await self._outbox.send(record, message, received.attempts)

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

    def _count(self, task: str, outcome: str, reason: RefusalReason | None = None) -> None:
        """Count a query; unregistered task names share one label, which bounds the number of metrics."""
        self._metrics.decided(task if task in self._state.tasks else _NO_TASK, outcome, reason)
