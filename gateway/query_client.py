"""Asks a query of the queues and waits for its result: all that HTTP knows of Kafka.

Hot: `QueryClient.ask`, once a request. It creates no task; its costs beside the producer are one future, one
timer and a few dictionary steps. bench/throughput/gateway.py holds it against a handler that does nothing else.
"""

import itertools
import logging
import time
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import msgspec
from prometheus_client import Gauge

from broker.request_reply import RequestReply
from broker.settings import KafkaSettings
from gateway.admission import Admission
from gateway.concurrency import ConcurrencyLimits, QueryKind
from gateway.kafka_health import KafkaHealth
from gateway.settings import GatewaySettings
from gateway.translation import Envelope
from process.signing import SigningSettings, vouch
from schemas import headers as h
from schemas.errors import DeadlineExceeded, ErrorCode
from schemas.query import MAX_TURNED_AWAY, Query
from schemas.result import OK, Result
from security.turned_away import turned_away_proof

log = logging.getLogger(__name__)

_ANSWERS: Final = frozenset({OK, ErrorCode.DEADLINE_EXCEEDED})
"""Statuses of a query that was worked on, or waited until its time was over."""

IN_FLIGHT: Final = Gauge("infaas_gateway_in_flight", "Queries that wait for their result")


class QueryClient:
    """Client of the queues that pairs queries with their results; an async context manager."""

    def __init__(self, settings: GatewaySettings, kafka: KafkaSettings, system_secret: bytes | None = None) -> None:
        """`system_secret` proves to selectors how many queries were refused here; without, they do not count these."""
        self._settings = settings
        self.owner = f"gateway-{uuid4().hex[:12]}"
        """The name of this process, which no other has."""
        self._numbers = itertools.count(1)
        self._kafka_health = KafkaHealth(settings.ack_timeout_s)
        self._admission = Admission()
        self._concurrency = ConcurrencyLimits()
        self._secret = _secret_to_vouch_with(settings)
        self._system_secret = system_secret
        self._requests = RequestReply(kafka, self.owner, max_in_flight=settings.max_in_flight)
        self.reply_topic = self._requests.reply_topic
        self.clock = self._requests.producer.clock
        """The broker's time."""
        self.prefetch_metadata = self._requests.producer.prefetch_metadata

    async def __aenter__(self) -> Self:
        await self._requests.__aenter__()
        IN_FLIGHT.set_function(lambda: self.in_flight)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kafka_health.close()
        await self._requests.__aexit__(kind, error, trace)

    @property
    def up(self) -> bool:
        """Whether Kafka takes queries."""
        return self._kafka_health.up

    @property
    def in_flight(self) -> int:
        """Number of queries that wait for their result."""
        return self._requests.in_flight

    def new_id(self) -> str:
        """An id that no other query has: this process's name is random."""
        return f"{self.owner}-{next(self._numbers)}"

    async def ask(self, envelope: Envelope) -> Result:
        """Send a query and wait for its result. Cancelling it makes room; the query may be computed all the same.

        Raises:
            Overloaded: too many queries wait, a selector has just refused one like it, or Kafka is down.
            DeadlineExceeded: there was no result in time.
        """
        query = envelope.query
        self._kafka_health.check()
        began_s = time.monotonic()
        kind = self._concurrency.enter(query, began_s)
        try:
            turned_away = self._admission.ask(query, began_s)
            if kind is not None:
                turned_away += kind.take_turned_away()
            if turned_away:
                envelope.headers.extend(self._turned_away(envelope, min(turned_away, MAX_TURNED_AWAY)))
            result = await self._result_of(envelope)
        finally:
            self._concurrency.leave(kind)
        return self._learn(query, kind, result, began_s)

    def _turned_away(self, envelope: Envelope, count: int) -> h.RawHeaders:
        """The headers that say, and prove, how many queries were refused here since the last that was let through."""
        headers = [(h.TURNED_AWAY, b"%d" % count)]
        if self._system_secret is not None:
            query, sent_ns = envelope.query, dict(envelope.headers)[h.SENT_NS].decode()
            proof = turned_away_proof(self._system_secret, query.task, query.id, sent_ns, str(count))
            headers.append((h.TURNED_AWAY_PROOF, proof.encode()))
        return headers

    async def _result_of(self, envelope: Envelope) -> Result | None:
        """Send a query and wait for its result; None: there was none in time."""
        query = envelope.query
        if self._secret is not None and query.tenant is not None:
            envelope.headers.append(await self._vouched(self._secret, envelope))
        left_s = _left_s(query)
        try:
            return await self._requests.ask(
                query.id,
                envelope.topic,
                envelope.value,
                envelope.headers,
                left_s=left_s,
                timeout_s=self._wait_s(query, left_s),
                on_sent=self._kafka_health.watch,
            )
        except TimeoutError:
            return None

    def _learn(self, query: Query, kind: QueryKind | None, result: Result | None, began_s: float) -> Result:
        """Learn from a result, or there being none, how full it is; returns it as the client reads it."""
        now, left_s = time.monotonic(), _left_s(query)
        took_s = now - began_s
        late = left_s is not None and took_s > left_s
        if kind is not None and left_s is not None and (result is None or result.status in _ANSWERS):
            kind.answered(took_s if result is not None and result.status == OK else max(took_s, left_s), left_s, now)
        if result is None:
            raise DeadlineExceeded("there was no result before the deadline")
        if result.status == ErrorCode.OVERLOADED and result.retry_after_s is not None:
            self._admission.refused(query, result.retry_after_s, now)
        else:
            self._admission.answered(query)
        return msgspec.structs.replace(result, late=True) if late else result  # a worker only knows when it sent it

    async def _vouched(self, secret: bytes, envelope: Envelope) -> tuple[str, bytes]:
        """The header that signs a query whose tenant has authenticated, for selectors that believe no name alone."""
        task, at_ms, added = envelope.query.task, self.clock.now_ms(), self._requests.stream_headers
        return await vouch(secret, task, envelope.headers, envelope.value, at_ms, added)

    def _wait_s(self, query: Query, left_s: float | None) -> float:
        if left_s is None or query.needs.allow_late:
            return self._settings.wait_s
        return min(left_s + self._settings.grace_s, self._settings.wait_s)


def _secret_to_vouch_with(settings: GatewaySettings) -> bytes | None:
    """The secret to sign by; None where nobody authenticates: to sign what a header says would make it proved."""
    secret = SigningSettings().read()
    if secret is not None and not settings.auth:
        log.warning("a signing secret is set, but --auth is not on: no query is signed for the tenant that it names")
        return None
    return secret


def _left_s(query: Query) -> float | None:
    """Seconds from when it was sent to its deadline; None if it has none."""
    return None if query.deadline_ms is None else max(query.deadline_ms - query.sent_ms, 0.0) / 1000
