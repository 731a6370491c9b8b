"""Takes a query from its task topic, decides, and sends it on; or answers it with an error.

Hot: `take` runs once a query, so there is no task, no log line and no formatted text in it, and nobody waits for an
acknowledgement: it arrives as a callback and marks the record done. The budget is 0.6 of the throughput of a bare
consume-and-produce loop (`bench/selector_throughput.py`).

A record is done when its forwarding, or its error result, or its dead letter is acknowledged. What could not be sent is
tried again by `mend`, decided anew each time; after `attempts` it becomes a dead letter. While Kafka is away dead
letters fail like all else, and the tries begin again: an outage buries nothing that could still be answered.
"""

import asyncio
import logging
import time
from collections import deque
from functools import partial
from typing import Final, NamedTuple

import msgspec

from broker.consumer import Consumer, Record
from broker.dead_letters import bury
from broker.kafka_types import KafkaError, UnknownTopic
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
from selector.explain import explain
from selector.forward import failed, forwarded, refused
from selector.load import LoadMeter
from selector.metrics import Metrics
from selector.offers import Offer
from selector.policy import Choice, Refusal, Rules, choose
from selector.shedding import Shedding
from selector.world import World

log = logging.getLogger(__name__)

_PAUSES_S: Final = (0.1, 0.3, 1.0, 3.0)
_EVENT: Final = "cloudevents"
_encode: Final = msgspec.json.Encoder().encode


class _Reply(NamedTuple):
    """An error result."""

    topic: str
    value: bytes
    headers: RawHeaders


class _Setback(NamedTuple):
    """A record whose forwarding, or error result, was not acknowledged."""

    record: Record
    attempts: int
    error: BaseException | None
    reply: _Reply | None
    """What could not be sent, if it was an error result."""


class _Letter(NamedTuple):
    """A record to be made a dead letter, and answered if there is a reply."""

    record: Record
    reason: str
    attempts: int
    reply: _Reply | None


class Dispatch:
    """One selector's way from a record to its successor."""

    def __init__(
        self,
        world: World,
        rules: Rules,
        consumer: Consumer,
        producer: Producer,
        metrics: Metrics,
        load: LoadMeter,
        *,
        attempts: int = 3,
        demand_every_s: float = 0.5,
    ) -> None:
        self._world = world
        self._rules = rules
        self._consumer = consumer
        self._producer = producer
        self._metrics = metrics
        self._load = load
        self._attempts = attempts
        self._demand_every_s = demand_every_s
        self._shedding = Shedding()
        self._demanded: dict[str, float] = {}
        self._aside: deque[_Setback | _Letter] = deque()
        self._trouble = asyncio.Event()

    async def take(self, record: Record, attempts: int = 1) -> None:
        """Send a record on. Waits only while too much is unacknowledged; never raises for the record's sake."""
        task = record.topic[len(TASKS) :]
        headers, value = record.headers, record.value
        try:
            fields = as_text(headers)
            content_type = fields.get(h.CONTENT_TYPE)
            if SPEC_VERSION in fields or (content_type and _EVENT in content_type.lower()):
                fields, value, headers = _unwrapped(fields, value)
            query = parse_query(task, fields, record.timestamp)
        except InvalidRequest as error:
            self._reject(record, error)
            return
        except UnicodeDecodeError:
            self._reject(record, InvalidRequest("a header's value is not UTF-8"))
            return
        now_ns = time.time_ns()
        now = now_ns / 1e9
        outcome = choose(query, self._world, now, self._rules)
        if self._shedding.tasks:
            outcome = self._shedding.review(query, outcome, self._world, now, self._rules)
        explanation = explain(query, self._world, now, self._rules, outcome) if query.needs.explain else None
        if isinstance(outcome, Refusal):
            sent_headers = refused(query, outcome.error, fields, now_ns, explanation)
            await self._refuse(record, query, outcome, sent_headers, attempts)
            return
        if attempts == 1:
            self._load.forwarded(query, outcome.offer.name, outcome.upgraded)
        offline = query.needs.mode is Mode.OFFLINE
        partition = outcome.partition
        future = await self._producer.send(
            outcome.offer.topic,
            value,
            key=query.id.encode(),
            headers=forwarded(query, outcome, headers, now_ns, explanation),
            partition=partition.number,
        )
        self._world.sent(outcome.instance, partition, query.batch, offline, now)
        future.add_done_callback(partial(self._forwarded, record, outcome, offline, attempts))
        if outcome.instance is not None:
            self._metrics.decided(task, "upgraded" if outcome.upgraded else "serving")
            return
        self._metrics.decided(task, "loading")
        await self._demand(task, outcome.offer, now, "a query waits for it")

    def _forwarded(
        self, record: Record, choice: Choice, offline: bool, attempts: int, sent: "asyncio.Future[Ack]"
    ) -> None:
        if sent.cancelled():  # we are closing; the record will be delivered again
            return
        error = sent.exception()
        if error is None:
            self._world.acknowledged(choice.instance, choice.partition, sent.result().offset, offline, time.time())
            self._consumer.done(record)
        else:
            self._world.failed(choice.partition)
            self._put_aside(_Setback(record, attempts, error, None))

    # -- queries that go nowhere ---------------------------------------------------------------------------------------

    async def _refuse(self, record: Record, query: Query, refusal: Refusal, headers: RawHeaders, attempts: int) -> None:
        error = refusal.error
        if refusal.crowded is not None:
            self._shedding.begin(query.task, time.time())
        self._metrics.decided(query.task, error.code)
        if attempts == 1 and not isinstance(error, (UnknownTask, Unsatisfiable)):
            self._load.refused(query, isinstance(error, Overloaded))
        reply = _Reply(query.reply_to, error_value(str(error)), headers)
        if query.task in self._world.tasks:
            await self._reply(record, reply, attempts)
        else:
            self._put_aside(_Letter(record, str(error), attempts, reply))
        if refusal.wanted is not None:
            await self._demand(query.task, refusal.wanted, time.time(), "a query was refused for want of it")

    def _reject(self, record: Record, error: QueryError) -> None:
        """A record that cannot be read: a dead letter, and an error result if it says where to."""
        self._metrics.decided(record.topic[len(TASKS) :], error.code)
        self._put_aside(_Letter(record, str(error), 1, _answer_unread(record, error)))

    async def _reply(self, record: Record, reply: _Reply, attempts: int) -> None:
        sent = await self._producer.send(reply.topic, reply.value, key=reply.headers[0][1], headers=reply.headers)
        sent.add_done_callback(partial(self._replied, record, reply, attempts))

    def _replied(self, record: Record, reply: _Reply, attempts: int, sent: "asyncio.Future[Ack]") -> None:
        if sent.cancelled():
            return
        error = sent.exception()
        if error is None:
            self._consumer.done(record)
        else:
            self._put_aside(_Setback(record, attempts, error, reply))

    async def _demand(self, task: str, offer: Offer, now: float, reason: str) -> None:
        """Ask the autoscaler for an instance, not too often. A lost demand is repeated by the next query."""
        if now - self._demanded.get(offer.name, 0.0) < self._demand_every_s:
            return
        self._demanded[offer.name] = now
        demand = Demand(task=task, variant=offer.name, at_ms=now * 1000, reason=reason)
        sent = await self._producer.send(DEMAND, _encode(demand), key=offer.name_header)
        sent.add_done_callback(_log_lost_demand)

    # -- setbacks ------------------------------------------------------------------------------------------------------

    def _put_aside(self, what: _Setback | _Letter) -> None:
        # Bounded: each holds a record that the consumer counts as out.
        self._aside.append(what)
        self._trouble.set()

    async def mend(self) -> None:
        """Deal with what was not acknowledged and what cannot be answered, until cancelled."""
        while True:
            await self._trouble.wait()
            self._trouble.clear()
            due = [self._aside.popleft() for _ in range(len(self._aside))]
            setbacks = [item for item in due if isinstance(item, _Setback)]
            async with asyncio.TaskGroup() as tasks:
                for letter in due:
                    if isinstance(letter, _Letter):
                        tasks.create_task(self._bury(letter), name="bury")
                if setbacks:
                    tasks.create_task(self._retry(setbacks), name="retry")

    async def _retry(self, setbacks: list[_Setback]) -> None:
        fewest = min(setback.attempts for setback in setbacks)
        await asyncio.sleep(_PAUSES_S[min(fewest, len(_PAUSES_S)) - 1])
        for setback in setbacks:
            record, attempts, error, reply = setback
            if attempts >= self._attempts:
                log.warning("%s: a query could not be sent in %d attempts: %r", record.topic, attempts, error)
                answer = _answer_unread(record, Internal("the query could not be forwarded")) if reply is None else None
                self._put_aside(_Letter(record, f"could not be sent: {error!r}", attempts, answer))
            elif reply is None:
                await self.take(record, attempts + 1)
            else:
                await self._reply(record, reply, attempts + 1)

    async def _bury(self, letter: _Letter) -> None:
        record, reason, attempts, reply = letter
        try:
            await bury(self._producer, record, reason, attempts)
            if reply is not None:
                await self._producer.send_and_wait(
                    reply.topic, reply.value, key=reply.headers[0][1], headers=reply.headers
                )
        except UnknownTopic:
            log.debug("%s: a dead letter's reply topic does not exist", record.topic)
        except KafkaError as error:
            log.warning("a dead letter was not acknowledged, starting over: %r", error)
            self._put_aside(_Setback(record, 1, error, None))
            return
        self._consumer.done(record)


def _unwrapped(fields: dict[str, str], value: bytes | None) -> tuple[dict[str, str], bytes | None, RawHeaders]:
    event = unwrap(fields, value or b"")
    if event is None:
        raise InvalidRequest("the record says it is a CloudEvent, and is none")
    inner, data = event
    return inner, data, [(name, text.encode()) for name, text in inner.items()]


def _answer_unread(record: Record, error: QueryError) -> _Reply | None:
    """An error result from what little can be read of a record."""
    fields = {name: value.decode(errors="replace") if value else "" for name, value in record.headers}
    query_id = fields.get(h.ID) or fields.get("ce_id") or ""
    topic = fields.get(h.REPLY_TO) or fields.get("ce_replyto") or results_topic(record.topic[len(TASKS) :])
    if not 0 < len(query_id) <= MAX_ID or not may_reply_to(topic):
        return None
    return _Reply(topic, error_value(str(error)), failed(query_id, error, fields))


def _log_lost_demand(sent: "asyncio.Future[Ack]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        log.warning("a demand was not acknowledged: %r", sent.exception())
