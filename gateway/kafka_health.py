"""Kafka's health, watched by the acknowledgements of our records, at the price of two dictionary steps a query.

Nothing tells a producer that its broker is gone; records only pile up until their timeout. So one timer looks at the
oldest record that is not acknowledged. When it is too old, Kafka counts as down: the waiting queries it concerns fail
at once, and new ones are refused until an acknowledgement comes, but for one a second that probes.
"""

import asyncio
from typing import Final

from prometheus_client import Gauge

from broker.kafka_types import RecordTooLarge, TopicClosed, UnknownTopic
from broker.producer import Ack
from schemas.errors import Internal, InvalidRequest, Overloaded, QueryError, UnknownTask
from schemas.result import Result

_PROBE_INTERVAL_S: Final = 1.0
UP: Final = Gauge("infaas_gateway_kafka_up", "Whether Kafka acknowledges the records of this gateway")


class KafkaHealth:
    """Health of Kafka as the records of one producer show it; belongs to one event loop."""

    def __init__(self, ack_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ack_timeout_s = ack_timeout_s
        self._unacknowledged: dict[asyncio.Future[Ack], tuple[float, asyncio.Future[Result]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._probe_at = 0.0
        self._down = False
        UP.set(1)

    @property
    def up(self) -> bool:
        """Whether the last that was heard of Kafka was good."""
        return not self._down

    def check(self) -> None:
        """Raise unless a record may be sent now.

        Raises:
            Overloaded: Kafka is down, and this query is not the one that probes whether it is back.
        """
        if not self._down:
            return
        now = self._loop.time()
        if now < self._probe_at:
            raise _down()
        self._probe_at = now + _PROBE_INTERVAL_S

    def watch(self, ack: asyncio.Future[Ack], reply: asyncio.Future[Result]) -> None:
        """Fail `reply` if the record of `ack` is not acknowledged."""
        self._unacknowledged[ack] = (self._loop.time(), reply)
        ack.add_done_callback(self._on_done)
        if self._timer is None:
            self._timer = self._loop.call_later(self._ack_timeout_s, self._check_oldest)

    def failed(self) -> None:
        """Count Kafka as down: it refused a record, or has not acknowledged it in time."""
        self._down = True
        self._probe_at = self._loop.time() + _PROBE_INTERVAL_S
        UP.set(0)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_done(self, ack: asyncio.Future[Ack]) -> None:
        _sent, reply = self._unacknowledged.pop(ack)
        error = None if ack.cancelled() else ack.exception()
        if isinstance(error, RecordTooLarge):
            _fail(reply, InvalidRequest("the query is larger than Kafka takes"))
        elif isinstance(error, TopicClosed):
            _fail(reply, UnknownTask("this task is being unregistered, and takes no queries any more"))
        elif isinstance(error, UnknownTopic):
            _fail(reply, Internal("the task is registered, but its topic is missing"))
        elif error is not None or ack.cancelled():
            self.failed()
            _fail(reply, _down())
        elif self._down:
            self._down = False
            UP.set(1)

    def _check_oldest(self) -> None:
        self._timer = None
        limit = self._loop.time() - self._ack_timeout_s
        next_at: float | None = None
        for sent, reply in self._unacknowledged.values():  # oldest first
            if sent > limit:
                next_at = sent + self._ack_timeout_s
                break
            # The record may still be written, and its acknowledgement will tell that Kafka is back.
            self.failed()
            _fail(reply, _down())
            next_at = limit + 2 * self._ack_timeout_s
        if next_at is not None:
            self._timer = self._loop.call_at(next_at, self._check_oldest)


def _fail(reply: asyncio.Future[Result], error: QueryError) -> None:
    if not reply.done():
        reply.set_exception(error)


def _down() -> Overloaded:
    return Overloaded("Kafka does not take queries at the moment; try again later")
