"""Takes an online query from its task topic, chooses, and sends it on; or answers it with an error.

Hot: `take` runs once a query, so there is no task, no log line and no formatted text in it, and nobody waits for an
acknowledgement: it arrives as a callback and marks the record done. The budget is 0.6 of the throughput of a bare
consume-and-produce loop (`bench/throughput/selector.py`).

A record is done when its forwarding, or its error result, or its dead letter is acknowledged (`broker/outbox.py`). A
query that could not be sent on is decided on anew, for another instance may take it; after `attempts` it becomes a dead
letter. An offline query that came here is moved to the topic of those, which `selector/offline_dispatcher.py` reads.
"""

import logging
import time
from functools import partial

from broker.delivery.consumer import Consumer, Record
from broker.outbox import Message, Outbox
from broker.producer import Ack, Producer
from broker.reply_stream.sender import ResultSender
from schemas.errors import Internal, InvalidRequest, Overloaded, QueryError, UnknownTask, Unsatisfiable
from schemas.headers import RawHeaders
from schemas.needs import Mode
from schemas.topics import offline_topic, task_of
from selector.cluster_state import ClusterState
from selector.demand_sender import DemandSender
from selector.explain import explain
from selector.forward import forwarded, moved, refused
from selector.load_meter import LoadMeter
from selector.metrics import SelectorMetrics
from selector.overload import LoadShedder
from selector.policy import Choice, PolicyConfig, Refusal, choose
from selector.received_query import ReceivedQuery, error_result, read_query, unreadable_reply

log = logging.getLogger(__name__)


class Dispatcher:
    """Forwards, moves or refuses each query of the online topics of one selector."""

    def __init__(
        self,
        state: ClusterState,
        config: PolicyConfig,
        consumer: Consumer,
        producer: Producer,
        metrics: SelectorMetrics,
        load_meter: LoadMeter,
        demands: DemandSender,
        streams: ResultSender,
        *,
        attempts: int = 3,
    ) -> None:
        self._state = state
        self._config = config
        self._consumer = consumer
        self._clock = producer.clock
        self._metrics = metrics
        self._load_meter = load_meter
        self._demands = demands
        self._outbox = Outbox(
            producer, self._done, unreadable_reply, max_attempts=attempts, decide_again=self.take, streams=streams
        )
        self._load_shedder = LoadShedder(config)
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
        except Exception as error:
            log.error("%s: record %d/%d", record.topic, record.partition, record.offset, exc_info=error)
            self._reject(record, Internal("the query could not be decided on"), attempts)

    async def _decide(self, record: Record, attempts: int) -> None:
        task = task_of(record.topic)
        offset_ms = self._clock.offset_ms
        query, fields, headers, value = received = read_query(task, record, offset_ms)
        if query.needs.mode is Mode.OFFLINE:
            await self._move(record, received, offset_ms, attempts)
            return
        now = time.monotonic()
        outcome = choose(query, self._state, now, self._config)
        if self._load_shedder.overloads:
            outcome = self._load_shedder.review(query, outcome, self._state, now, self._config)
        explanation = explain(query, self._state, now, self._config, outcome) if query.needs.explain else None
        if isinstance(outcome, Refusal):
            sent_headers = refused(query, outcome.error, fields, now, explanation)
            await self._refuse(record, received, outcome, sent_headers, attempts)
            return
        if attempts == 1:
            self._load_meter.forwarded(query, outcome.variant.name, outcome.upgraded)
        partition = outcome.partition
        sent_headers = forwarded(query, outcome, headers, now, offset_ms, explanation)
        message = Message(outcome.variant.topic, value, sent_headers, query.id.encode(), partition.number)
        await self._outbox.send(record, message, attempts, partial(self._acknowledged, outcome))
        self._state.sent(outcome.instance, partition, query.batch, now)
        if outcome.instance is not None:
            self._metrics.decided(task, "upgraded" if outcome.upgraded else "serving")
            return
        self._metrics.decided(task, "loading")
        await self._demands.send(task, outcome.variant, now, "a query waits for it")

    async def _move(self, record: Record, received: ReceivedQuery, offset_ms: float, attempts: int) -> None:
        query, _fields, headers, value = received
        message = Message(offline_topic(query.task), value, moved(query, headers, offset_ms), query.id.encode())
        await self._outbox.send(record, message, attempts)
        self._metrics.decided(query.task, "moved")

    def _acknowledged(self, choice: Choice, written: Ack | None) -> None:
        if written is None:
            self._state.failed(choice.partition)
        else:
            self._state.acknowledged(choice.instance, choice.partition, written.offset, time.monotonic())

    def _done(self, record: Record, _sent: Message | None) -> None:
        self._consumer.done(record)

    # -- queries that go nowhere ---------------------------------------------------------------------------------------

    async def _refuse(
        self, record: Record, received: ReceivedQuery, refusal: Refusal, headers: RawHeaders, attempts: int
    ) -> None:
        query, error = received.query, refusal.error
        if refusal.contended is not None:
            self._load_shedder.report_overload(query.task, time.monotonic())
        self._metrics.decided(query.task, error.code)
        if attempts == 1 and not isinstance(error, (UnknownTask, Unsatisfiable)):
            self._load_meter.refused(query, isinstance(error, Overloaded))
        reply = error_result(query.reply_to, error, headers, received.fields)
        if query.task in self._state.tasks:
            await self._outbox.send(record, reply, attempts)
        else:
            self._outbox.give_up(record, str(error), reply, attempts)
        if refusal.wanted is not None:
            await self._demands.send(query.task, refusal.wanted, time.monotonic(), "a query was refused for want of it")

    def _reject(self, record: Record, error: QueryError, attempts: int) -> None:
        """Make a record that cannot be read a dead letter, and send an error result if it says where to."""
        self._metrics.decided(task_of(record.topic), error.code)
        self._outbox.give_up(record, str(error), unreadable_reply(record, error), attempts)
