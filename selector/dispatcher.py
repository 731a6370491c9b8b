"""Takes a query from its task topic, chooses, and sends it on; or answers it with an error.

Hot: `take` runs once a query, so there is no task, no log line and no formatted text in it, and nobody waits for an
acknowledgement: it arrives as a callback and marks the record done. The budget is 0.6 of the throughput of a bare
consume-and-produce loop (`bench/throughput/selector.py`).

A record is done when its forwarding, or its error result, or its dead letter is acknowledged (`broker/outbox.py`). A
query that could not be sent on is decided on anew, for another instance may take it; after `attempts` it becomes a dead
letter.
"""

import logging
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Final

import msgspec

from broker.delivery.consumer import Consumer, Record
from broker.outbox import Message, Outbox
from broker.producer import Ack, Producer
from schemas import headers as h
from schemas.cloudevents import SPEC_VERSION, unwrap
from schemas.errors import Internal, InvalidRequest, Overloaded, QueryError, UnknownTask, Unsatisfiable
from schemas.headers import RawHeaders, as_text
from schemas.needs import Mode
from schemas.query import MAX_ID, Query, parse_query
from schemas.result import error_value
from schemas.status import Demand
from schemas.topics import DEMAND, TASKS, may_reply_to, results_topic
from selector.cluster_state import ClusterState
from selector.explain import explain
from selector.forward import failed, forwarded, refused
from selector.load_meter import LoadMeter
from selector.metrics import SelectorMetrics
from selector.overload import LoadShedder
from selector.policy import Choice, PolicyConfig, Refusal, choose
from selector.variants import PricedVariant

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

_EVENT: Final = "cloudevents"
_encode: Final = msgspec.json.Encoder().encode


class Dispatcher:
    """Forwards or refuses each query of one selector."""

    def __init__(
        self,
        state: ClusterState,
        config: PolicyConfig,
        consumer: Consumer,
        producer: Producer,
        metrics: SelectorMetrics,
        load_meter: LoadMeter,
        *,
        attempts: int = 3,
        demand_interval_s: float = 0.5,
    ) -> None:
        self._state = state
        self._config = config
        self._consumer = consumer
        self._producer = producer
        self._metrics = metrics
        self._load_meter = load_meter
        self._outbox = Outbox(producer, self._done, _unreadable_reply, max_attempts=attempts, decide_again=self.take)
        self._demand_interval_s = demand_interval_s
        self._load_shedder = LoadShedder(config)
        self._demanded: dict[str, float] = {}
        self.retry_failed = self._outbox.retry_failed
        """Sends what was not acknowledged again; runs beside `take` until cancelled."""

    async def take(self, record: Record, attempts: int = 1) -> None:
        """Send a record on, or answer it with an error; raises nothing for the record's sake.

        Waits only while too much is unacknowledged.
        """
        try:
            await self._decide(record, attempts)
        except InvalidRequest as error:
            self._reject(record, error, attempts)
        except UnicodeError:
            self._reject(record, InvalidRequest("the name or the value of a header is not UTF-8"), attempts)
        except Exception as error:
            log.error("%s: record %d/%d", record.topic, record.partition, record.offset, exc_info=error)
            self._reject(record, Internal("the query could not be decided on"), attempts)

    async def _decide(self, record: Record, attempts: int) -> None:
        task = record.topic[len(TASKS) :]
        headers, value = record.headers, record.value
        fields = as_text(headers)
        content_type = fields.get(h.CONTENT_TYPE)
        if SPEC_VERSION in fields or (content_type and _EVENT in content_type.lower()):
            fields, value, headers = _unwrapped(fields, value)
        offset_ms = self._producer.clock.offset_ms
        query = parse_query(task, fields, record.timestamp, offset_ms)
        now = time.monotonic()
        outcome = choose(query, self._state, now, self._config)
        if self._load_shedder.overloads:
            outcome = self._load_shedder.review(query, outcome, self._state, now, self._config)
        explanation = explain(query, self._state, now, self._config, outcome) if query.needs.explain else None
        if isinstance(outcome, Refusal):
            sent_headers = refused(query, outcome.error, fields, now, explanation)
            await self._refuse(record, query, outcome, sent_headers, attempts)
            return
        if attempts == 1:
            self._load_meter.forwarded(query, outcome.variant.name, outcome.upgraded)
        offline = query.needs.mode is Mode.OFFLINE
        partition = outcome.partition
        sent_headers = forwarded(query, outcome, headers, now, offset_ms, explanation)
        message = Message(outcome.variant.topic, value, sent_headers, query.id.encode(), partition.number)
        await self._outbox.send(record, message, attempts, partial(self._acknowledged, outcome, offline))
        self._state.sent(outcome.instance, partition, query.batch, offline, now)
        if outcome.instance is not None:
            self._metrics.decided(task, "upgraded" if outcome.upgraded else "serving")
            return
        self._metrics.decided(task, "loading")
        await self._send_demand(task, outcome.variant, now, "a query waits for it")

    def _acknowledged(self, choice: Choice, offline: bool, written: Ack | None) -> None:
        if written is None:
            self._state.failed(choice.partition)
        else:
            self._state.acknowledged(choice.instance, choice.partition, written.offset, offline, time.monotonic())

    def _done(self, record: Record, _sent: Message | None) -> None:
        self._consumer.done(record)

    # -- queries that go nowhere ---------------------------------------------------------------------------------------

    async def _refuse(self, record: Record, query: Query, refusal: Refusal, headers: RawHeaders, attempts: int) -> None:
        error = refusal.error
        if refusal.contended is not None:
            self._load_shedder.report_overload(query.task, time.monotonic())
        self._metrics.decided(query.task, error.code)
        if attempts == 1 and not isinstance(error, (UnknownTask, Unsatisfiable)):
            self._load_meter.refused(query, isinstance(error, Overloaded))
        reply = _error_result(query.reply_to, error, headers)
        if query.task in self._state.tasks:
            await self._outbox.send(record, reply, attempts)
        else:
            self._outbox.give_up(record, str(error), reply, attempts)
        if refusal.wanted is not None:
            await self._send_demand(query.task, refusal.wanted, time.monotonic(), "a query was refused for want of it")

    def _reject(self, record: Record, error: QueryError, attempts: int) -> None:
        """Make a record that cannot be read a dead letter, and send an error result if it says where to."""
        self._metrics.decided(record.topic[len(TASKS) :], error.code)
        self._outbox.give_up(record, str(error), _unreadable_reply(record, error), attempts)

    async def _send_demand(self, task: str, variant: PricedVariant, now: float, reason: str) -> None:
        """Ask the autoscaler for an instance, not too often. A lost demand is repeated by the next query."""
        if now - self._demanded.get(variant.name, -inf) < self._demand_interval_s:
            return
        self._demanded[variant.name] = now
        demand = Demand(task=task, variant=variant.name, at_ms=self._producer.clock.now_ms(), reason=reason)
        sent = await self._producer.send(DEMAND, _encode(demand), key=variant.name_header)
        sent.add_done_callback(_log_lost_demand)


def _unwrapped(fields: dict[str, str], value: bytes | None) -> tuple[dict[str, str], bytes | None, RawHeaders]:
    event = unwrap(fields, value or b"")
    if event is None:
        raise InvalidRequest("the record says it is a CloudEvent, and is none")
    inner, data = event
    return inner, data, [(name, text.encode()) for name, text in inner.items()]


def _unreadable_reply(record: Record, error: QueryError) -> Message | None:
    """An error result from what little can be read of a record."""
    fields = {name: value.decode(errors="replace") if value else "" for name, value in record.headers}
    query_id = fields.get(h.ID) or fields.get("ce_id") or ""
    topic = fields.get(h.REPLY_TO) or fields.get("ce_replyto") or results_topic(record.topic[len(TASKS) :])
    if not 0 < len(query_id) <= MAX_ID or not may_reply_to(topic):
        return None
    return _error_result(topic, error, failed(query_id, error, fields))


def _error_result(topic: str, error: QueryError, headers: RawHeaders) -> Message:
    return Message(topic, error_value(str(error)), headers, headers[0][1], status=error.code.value)


def _log_lost_demand(sent: "asyncio.Future[Ack]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        log.warning("a demand was not acknowledged: %r", sent.exception())
