"""Asks Kafka a query and waits for its result: the one port between HTTP and the queues.

What is hot: `Asking.ask`, once a request. It creates no task; its costs beside the producer are one future, one timeout
and a few dictionary steps. bench/gateway_throughput.py holds it against a handler that does nothing else.
"""

import asyncio
import itertools
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from prometheus_client import Gauge

from broker.producer import Producer
from broker.replies import Replies
from broker.settings import KafkaSettings
from gateway.delivery import Delivery
from gateway.settings import GatewaySettings
from gateway.translation import Envelope
from schemas.errors import DeadlineExceeded, Overloaded
from schemas.query import Query
from schemas.result import Result

IN_FLIGHT: Final = Gauge("infaas_gateway_in_flight", "Queries that wait for their result")


class Asking:
    """Async context manager."""

    def __init__(self, settings: GatewaySettings, kafka: KafkaSettings) -> None:
        self._settings = settings
        self._owner = f"gateway-{uuid4().hex[:12]}"
        self._numbers = itertools.count(1)
        self._delivery: Delivery | None = None
        self._in_flight = 0
        self._loop = asyncio.get_running_loop()
        # Records given up on stay with the producer until Kafka is back or they expire: hence room for two generations.
        self._producer = Producer(kafka, self._owner, max_in_flight=2 * settings.max_in_flight)
        self._replies = Replies(kafka, self._owner, max_waiting=settings.max_in_flight)
        self.reply_topic = self._replies.topic
        self.learn = self._producer.learn

    async def __aenter__(self) -> Self:
        await self._producer.__aenter__()
        try:
            await self._replies.__aenter__()
        except BaseException:
            await self._producer.__aexit__(None, None, None)
            raise
        self._delivery = Delivery(self._settings.ack_timeout_s)
        IN_FLIGHT.set_function(lambda: self._in_flight)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watched.close()
        try:
            await self._replies.__aexit__(kind, error, trace)
        finally:
            await self._producer.__aexit__(kind, error, trace)

    @property
    def _watched(self) -> Delivery:
        assert self._delivery is not None, "used outside its context"
        return self._delivery

    @property
    def up(self) -> bool:
        """Whether Kafka takes queries."""
        return self._watched.up

    @property
    def in_flight(self) -> int:
        """Queries that wait for their result."""
        return self._in_flight

    def new_id(self) -> str:
        """An id no other query has: this process's name is random."""
        return f"{self._owner}-{next(self._numbers)}"

    async def ask(self, envelope: Envelope) -> Result:
        """Send a query and wait for its result. Cancelling it frees its slot; the query may be computed all the same.

        Raises:
            Overloaded: too many queries wait, or Kafka is down.
            DeadlineExceeded: there was no result in time.
            InvalidRequest: a query of this id is waiting already.
        """
        delivery, query = self._watched, envelope.query
        if self._in_flight >= self._settings.max_in_flight:
            raise Overloaded(f"{self._in_flight} queries are waiting for their result here; try again later")
        delivery.check()
        reply = self._replies.expect(query.id)
        self._in_flight += 1
        # Sending is bounded by the producer itself, and a bare timer on the reply is cheaper than a timeout block.
        timer = self._loop.call_later(self._wait_s(query), _expire, reply)
        try:
            ack = await self._producer.send(
                envelope.topic, envelope.value, key=query.id.encode(), headers=envelope.headers
            )
            delivery.watch(ack, reply)
            return await reply
        finally:
            timer.cancel()
            self._in_flight -= 1
            self._replies.forget(query.id)

    def _wait_s(self, query: Query) -> float:
        if query.deadline_ms is None or query.needs.allow_late:
            return self._settings.wait_s
        left_s = max(query.deadline_ms - query.sent_ms, 0.0) / 1000
        return min(left_s + self._settings.grace_s, self._settings.wait_s)


def _expire(reply: asyncio.Future[Result]) -> None:
    if not reply.done():
        reply.set_exception(DeadlineExceeded("there was no result before the deadline"))
