"""Kafka client for queries: sends each query and waits for its result.

Performance: `QueryClient.ask` runs for each request. It creates no task; besides the producer it costs one future, one
timer and a few dictionary operations. bench/throughput/gateway.py compares it with a handler that does nothing else.
"""

import asyncio
import itertools
import logging
import time
from functools import partial
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import msgspec
from prometheus_client import Gauge

from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Ack
from broker.replies.answer_stream import OnPart
from broker.replies.request_reply import Reply, RequestReply
from gateway.limits.admission import Admission
from gateway.limits.concurrency import ConcurrencyLimit, ConcurrencyLimits
from gateway.limits.kafka_health import KafkaHealth
from gateway.settings import GatewaySettings
from gateway.translation import Envelope
from process.security.signature import rejected_upstream_proof
from process.signing import SigningSettings, sign_headers
from schemas import headers as h
from schemas.errors import DeadlineExceeded, ErrorCode, RefusalReason
from schemas.query import MAX_REJECTED_UPSTREAM, Query
from schemas.result import OK, Result
from schemas.topics import GATEWAY

log = logging.getLogger(__name__)

_ANSWERS: Final = frozenset({OK, ErrorCode.DEADLINE_EXCEEDED})
"""Statuses of queries that were computed or waited until their deadline."""

IN_FLIGHT: Final = Gauge("infaas_gateway_in_flight", "Queries that wait for their result")


class QueryClient:
    """Client that matches queries with their results; an async context manager."""

    def __init__(self, settings: GatewaySettings, kafka: KafkaSettings, system_secret: bytes | None = None) -> None:
        """Create a client; selectors count the queries refused here only with a proof by `system_secret`."""
        self._settings = settings
        self.owner = f"{GATEWAY}{uuid4().hex[:12]}"
        """Unique name of this process."""
        self._numbers = itertools.count(1)
        self._kafka_health = KafkaHealth(settings.ack_timeout_s)
        self._admission = Admission()
        self._concurrency = ConcurrencyLimits()
        self._secret = _signing_secret(settings)
        self._system_secret = system_secret
        self._requests = RequestReply(kafka, self.owner, max_in_flight=settings.max_in_flight)
        self.reply_topic = self._requests.reply_topic
        self.clock = self._requests.producer.clock
        """Clock of the broker."""
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
        """True if Kafka accepts queries."""
        return self._kafka_health.up

    @property
    def in_flight(self) -> int:
        """Number of queries that wait for their result."""
        return self._requests.in_flight

    def new_id(self) -> str:
        """Return a unique id for a query; the name of this process in it is random."""
        return f"{self.owner}-{next(self._numbers)}"

    async def ask(self, envelope: Envelope, on_part: OnPart | None = None) -> Result:
        """Send a query and wait for its result. Cancelling frees its place, but the query may still be computed.

        Parts of a generative answer are passed to `on_part`.

        Raises:
            Overloaded: too many queries are in flight, the selector just refused similar ones, or Kafka is down.
            DeadlineExceeded: no result arrived in time.
        """
        query = envelope.query
        self._kafka_health.check()
        began_s = time.monotonic()
        kind = self._concurrency.enter(query, began_s)
        try:
            rejected = self._admission.ask(query, began_s)
            if kind is not None:
                rejected += kind.take_rejected_upstream()
            if rejected:
                envelope.headers.extend(self._rejected_upstream(envelope, min(rejected, MAX_REJECTED_UPSTREAM)))
            result = await self._result_of(envelope, on_part)
        finally:
            self._concurrency.leave(kind)
        return self._learn(query, kind, result, began_s)

    def _rejected_upstream(self, envelope: Envelope, count: int) -> h.RawHeaders:
        """Return headers with the number of refused queries since the last admitted one, and the proof of it."""
        headers = [(h.REJECTED_UPSTREAM, b"%d" % count)]
        if self._system_secret is not None:
            query, sent_ns = envelope.query, dict(envelope.headers)[h.SENT_NS].decode()
            proof = rejected_upstream_proof(self._system_secret, query.task, query.id, sent_ns, str(count))
            headers.append((h.REJECTED_UPSTREAM_PROOF, proof.encode()))
        return headers

    async def _result_of(self, envelope: Envelope, on_part: OnPart | None) -> Result | None:
        """Send a query and wait for its result; return None at a timeout."""
        query = envelope.query
        if self._secret is not None and query.tenant is not None:
            at_ms, added = self.clock.now_ms(), self._requests.stream_headers
            signature = await sign_headers(self._secret, query.task, envelope.headers, envelope.value, at_ms, added)
            envelope.headers.append(signature)  # selectors may require it
        left_s = _left_s(query)
        try:
            return await self._requests.ask(
                query.id,
                envelope.topic,
                envelope.value,
                envelope.headers,
                left_s=left_s,
                timeout_s=self._wait_s(query, left_s),
                on_sent=self._kafka_health.watch if envelope.on_acknowledged is None else partial(self._sent, envelope),
                on_part=on_part,
            )
        except TimeoutError:
            return None

    def _sent(self, envelope: Envelope, ack: asyncio.Future[Ack], reply: Reply) -> None:
        self._kafka_health.watch(ack, reply)
        if envelope.on_acknowledged is not None:
            ack.add_done_callback(envelope.on_acknowledged)

    def _learn(self, query: Query, kind: ConcurrencyLimit | None, result: Result | None, began_s: float) -> Result:
        """Update the limits by a result or a timeout; return the result for the client.

        Raises:
            DeadlineExceeded: there was no result.
        """
        now, left_s = time.monotonic(), _left_s(query)
        took_s = now - began_s
        late = left_s is not None and took_s > left_s
        if kind is not None and left_s is not None and (result is None or result.status in _ANSWERS):
            kind.answered(took_s if result is not None and result.status == OK else max(took_s, left_s), left_s, now)
        if result is None:
            raise DeadlineExceeded("there was no result before the deadline", reason=RefusalReason.NO_RESULT)
        if result.status == ErrorCode.OVERLOADED and result.retry_after_s is not None:
            self._admission.refused(query, result.retry_after_s, now)
        else:
            self._admission.answered(query)
        return msgspec.structs.replace(result, late=True) if late else result  # workers know only when they sent it

    def _wait_s(self, query: Query, left_s: float | None) -> float:
        if left_s is None or query.needs.allow_late:
            return self._settings.wait_s
        return min(left_s + self._settings.grace_s, self._settings.wait_s)


def _signing_secret(settings: GatewaySettings) -> bytes | None:
    """Return the signing secret; None if authentication is off: a signature would prove an unchecked tenant."""
    secret = SigningSettings().read()
    if secret is not None and not settings.auth:
        log.warning("a signing secret is set, but --auth is not on: no query is signed for the tenant that it names")
        return None
    return secret


def _left_s(query: Query) -> float | None:
    """Return the seconds from the sending of a query to its deadline; None if it has no deadline."""
    return None if query.deadline_ms is None else max(query.deadline_ms - query.sent_ms, 0.0) / 1000
