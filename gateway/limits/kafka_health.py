"""State of Kafka, derived from the acknowledgements of queries; it costs two dictionary operations a query.

A producer is not notified when its broker fails; its records only wait until they time out. A timer therefore checks
the oldest unacknowledged record. When that is too old, its query fails at once. If Kafka has acknowledged nothing since
it was sent, Kafka counts as down: new queries are refused until an acknowledgement arrives, except for one probe a
second.

A topic that does not exist, has no leader or may not be written is no outage: only queries for that topic fail.
"""

import asyncio
from math import inf
from typing import Final

from prometheus_client import Gauge

from broker.kafka.types import NOT_ACKNOWLEDGED, NotAllowed, RecordTooLarge, TopicClosed, UnknownTopic
from broker.producing.producer import Ack
from schemas.errors import Internal, InvalidRequest, Overloaded, QueryError, RefusalReason, UnknownTask
from schemas.result import Result

_PROBE_INTERVAL_S: Final = 1.0
UP: Final = Gauge("infaas_gateway_kafka_up", "Whether Kafka acknowledges the records of this gateway")


class KafkaHealth:
    """State of Kafka as seen by one producer; belongs to one event loop."""

    def __init__(self, ack_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ack_timeout_s = ack_timeout_s
        self._unacknowledged: dict[asyncio.Future[Ack], tuple[float, asyncio.Future[Result]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._probe_at = 0.0
        self._answered_at = -inf
        self._down = False
        UP.set(1)

    @property
    def up(self) -> bool:
        """True unless Kafka counts as down."""
        return not self._down

    def check(self) -> None:
        """Check that a record may be sent now.

        Raises:
            Overloaded: Kafka is down, and it is not yet time for the next probe.
        """
        if not self._down:
            return
        now = self._loop.time()
        if now < self._probe_at:
            raise _down()
        self._probe_at = now + _PROBE_INTERVAL_S

    def watch(self, ack: asyncio.Future[Ack], reply: asyncio.Future[Result]) -> None:
        """Fail `reply` if the record of `ack` is not acknowledged in time."""
        self._unacknowledged[ack] = (self._loop.time(), reply)
        ack.add_done_callback(self._on_done)
        if self._timer is None:
            self._timer = self._loop.call_later(self._ack_timeout_s, self._check_oldest)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_done(self, ack: asyncio.Future[Ack]) -> None:
        sent, reply = self._unacknowledged.pop(ack)
        error = None if ack.cancelled() else ack.exception()
        if ack.cancelled() or isinstance(error, NOT_ACKNOWLEDGED):
            self._miss(sent, reply)
            return
        if error is None or isinstance(error, UnknownTopic | NotAllowed):
            self._note_answer()
        if error is not None:
            _fail(reply, _refusal(error))

    def _note_answer(self) -> None:
        self._answered_at = self._loop.time()
        if self._down:
            self._down = False
            UP.set(1)

    def _miss(self, sent: float, reply: asyncio.Future[Result]) -> None:
        """Fail the query of an unacknowledged record; count Kafka as down if it acknowledged no later record."""
        _fail(reply, _down())
        if self._answered_at < sent:
            self._down = True
            self._probe_at = self._loop.time() + _PROBE_INTERVAL_S
            UP.set(0)

    def _check_oldest(self) -> None:
        self._timer = None
        limit = self._loop.time() - self._ack_timeout_s
        next_at: float | None = None
        for sent, reply in self._unacknowledged.values():  # oldest first
            if sent > limit:
                next_at = sent + self._ack_timeout_s
                break
            # The record may still be written; its late acknowledgement then shows that Kafka is up again.
            self._miss(sent, reply)
            next_at = limit + 2 * self._ack_timeout_s
        if next_at is not None:
            self._timer = self._loop.call_at(next_at, self._check_oldest)


def _fail(reply: asyncio.Future[Result], error: QueryError) -> None:
    if not reply.done():
        reply.set_exception(error)


def _refusal(error: BaseException) -> QueryError:
    """Return the error of a query whose record was refused by Kafka or by the producer."""
    if isinstance(error, RecordTooLarge):
        return InvalidRequest("the query is larger than Kafka accepts")
    if isinstance(error, TopicClosed):
        return UnknownTask("this task is being unregistered and accepts no more queries")
    if isinstance(error, UnknownTopic):
        return Internal("the task is registered, but its topic is missing")
    if isinstance(error, NotAllowed):
        return Internal("the task is registered, but the gateway may not write to its topic")
    return Internal(f"Kafka did not accept the query ({type(error).__name__})")


def _down() -> Overloaded:
    return Overloaded("Kafka accepts no queries at the moment; try again later", reason=RefusalReason.KAFKA_UNAVAILABLE)
