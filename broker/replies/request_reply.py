"""Requests of one process through Kafka, matched with their results.

    ask -> producer -> ... -> reply stream, or reply topic -> deliver -> caller of ask

Rules.
* A request carries a correlation, which its result returns; only the correlation matches the two. The id belongs to the
  client: two of its callers may use the same id at once, and others may know it. Correlations begin with random bits of
  this process, so only a reader of the request can name one. A result that somebody else sends to our topic is dropped.
* At most `max_in_flight` requests wait at once; further ones are refused.
* Delivery is at least once, so a result may arrive twice. The first one goes to its caller; later ones are dropped and
  counted. So is a result without a correlation, or with an unknown one.
* Parts of a result go to the caller that wants them, as they come; a part for which nobody waits is refused.
* If reading of the reply topic ends, all waiting requests fail at once, and not at their timeouts.
* The caller chooses the content of a request and its timeout, and interprets its errors.

A result arrives over a direct connection where that is possible (`receiver`), else in the reply topic. It may
arrive on both ways; `deliver` accepts that.

Hot: `ask` and `_take` run once per request. A request needs no task, and one future beside the producer's.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Final, Self, TypeAlias

from prometheus_client import Counter, Gauge

from broker.arrivals import Linger
from broker.fetch.fetch_request import FetchPace
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import create_topics, delete_topics, new_topic
from broker.kafka.types import KafkaError
from broker.producing.producer import Ack, Producer
from broker.replies.answer_stream import OnPart
from broker.replies.receiver import ReplyStreamReceiver
from process.cpus import CpuMeter
from schemas.defaults import CLAIM_INTERVAL_S
from schemas.errors import InfaasError, Internal, Overloaded, RefusalReason
from schemas.headers import CORRELATION, LINGER_NS, PART, REPLY_STREAM, RawHeaders, as_text
from schemas.result import Result, parse_result
from schemas.topics import reply_topic

log = logging.getLogger(__name__)

RETENTION_MS: Final = 600_000
_CLAIM: Final = b"infaas-claim"
_ANSWERED_KEPT: Final = 20_000
_PREFIX_BYTES: Final = 12
"""Number of random bytes at the beginning of a process's correlations."""

WAITING = Gauge("infaas_replies_waiting_count", "Queries of this process without a result yet")
DROPPED = Counter("infaas_replies_dropped_total", "Results without a waiting request", ["reason"])
_duplicate, _late, _invalid, _uncorrelated, _unknown = (
    DROPPED.labels(reason) for reason in ("duplicate", "late", "invalid", "uncorrelated", "unknown")
)


Reply: TypeAlias = asyncio.Future[Result]
"""Future of a result. Code that knows that the result will not arrive sets an exception."""
OnSent: TypeAlias = Callable[[asyncio.Future[Ack], Reply], None]
"""Callback with the future acknowledgement of a request, and its reply."""


class _Listener:
    """Caller that wants the parts of its answer."""

    __slots__ = ("heard_s", "on_part", "timer")

    def __init__(self, on_part: OnPart, now_s: float) -> None:
        self.on_part = on_part
        self.heard_s = now_s
        """Event-loop time of the last part."""
        self.timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class RequestReply:
    """Sender of requests that reads their results from a reply topic of its own.

    An async context manager: it creates the reply topic on entry and deletes it on exit.
    """

    def __init__(
        self, settings: KafkaSettings, owner: str, *, max_in_flight: int = 10_000, topic: str | None = None
    ) -> None:
        """Take the name of the reply topic from `topic`, or derive it from `owner`."""
        self.reply_topic = topic or reply_topic(owner)
        # Requests that were given up stay with the producer until they are acknowledged or expire, so it has twice the
        # room.
        self.producer = Producer(settings, owner, max_in_flight=2 * max_in_flight)
        self._settings = settings
        self._max_in_flight = max_in_flight
        self._waiting: dict[str, Reply] = {}
        """Replies by the correlation of their request."""
        self._listeners: dict[str, _Listener] = {}
        """Callers that want parts, by correlation."""
        self._prefix = f"{secrets.token_urlsafe(_PREFIX_BYTES)}."
        self._count = itertools.count(1)
        self._answered: dict[str, None] = {}
        """Correlations of the requests answered last."""
        self.stream_headers: RawHeaders = []
        """Header that `ask` adds to name the reply stream; empty if there is none."""
        self._linger = Linger(settings.max_linger_ms / 1e3)
        self._cpu = CpuMeter()
        self._owner = owner
        self._tail: Tail
        self._tasks = asyncio.TaskGroup()
        self._reading: asyncio.Task[None] | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    @property
    def in_flight(self) -> int:
        """Number of requests that wait for their result."""
        return len(self._waiting)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._settings.reply_stream.enabled:  # closed last
                receiver = ReplyStreamReceiver(
                    self._settings.reply_stream, self._take, kafka_encrypted=self._settings.encrypted
                )
                await stack.enter_async_context(receiver)
                self.stream_headers = [(REPLY_STREAM, receiver.header)] if receiver.header else []
            await stack.enter_async_context(self.producer)
            await create_topics(self._settings, [new_topic(self._settings, self.reply_topic, 1, RETENTION_MS)])
            stack.push_async_callback(self._delete_topic)
            await self.producer.learn_time(self.reply_topic)  # before the tail begins, so that this record is not read
            pace = FetchPace(self._settings, wakes=self.producer.features.wakes)
            self._tail = Tail(self._settings, f"replies-{self._owner}", [self.reply_topic], pace)
            await stack.enter_async_context(self._tail)
            await stack.enter_async_context(self._tasks)
            self._reading = self._tasks.create_task(self._read(), name=f"replies {self.reply_topic}")
            self._reading.add_done_callback(self._fail_all)
            stack.callback(self._reading.cancel)
            stack.callback(self._tasks.create_task(self._claim(), name=f"claim {self.reply_topic}").cancel)
            WAITING.set_function(lambda: len(self._waiting))
            self._closing = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._closing.aclose()

    async def ask(
        self,
        request_id: str,
        topic: str,
        value: bytes | None,
        headers: RawHeaders,
        *,
        left_s: float | None = None,
        timeout_s: float | None = None,
        on_sent: OnSent | None = None,
        on_part: OnPart | None = None,
    ) -> Result:
        """Send a request, whose headers name its id and `reply_topic`, and wait for its result.

        Other requests may have the same id. `left_s` is the time until the request's deadline, if it has one; the
        request may linger for a share of that time. Cancelling frees the request's place, but the request may be
        computed all the same, unless it is answered in parts. Those are passed to `on_part`.

        Raises:
            Overloaded: too many requests wait already.
            Internal: the reply topic is no longer read.
            TimeoutError: no result arrived within `timeout_s`; with `on_part`, none after the last part.
        """
        correlation, reply = self._expect()
        if on_part is not None:
            self._listeners[correlation] = _Listener(on_part, self._loop.time())
        # A timer costs less than a timeout block; the producer itself limits the time of sending.
        timer = None if timeout_s is None else self._loop.call_later(timeout_s, self._expire, correlation, timeout_s)
        try:
            correlated = [*headers, (CORRELATION, correlation.encode()), *self.stream_headers]
            linger_s = self._linger.linger_s(time.monotonic(), left_s, self._cpu.busy())
            if linger_s:
                correlated.append((LINGER_NS, b"%d" % (linger_s * 1e9)))
            key = request_id.encode()
            sent = await self.producer.send(topic, value, key=key, headers=correlated, linger_s=linger_s)
            if on_sent is not None:
                on_sent(sent, reply)
            return await reply
        finally:
            if timer is not None:
                timer.cancel()
            del self._waiting[correlation]
            if on_part is not None:
                self._listeners.pop(correlation).close()
            del reply  # its exception refers to this frame: a cycle that only the garbage collector would free

    def deliver(self, result: Result) -> None:
        """Pass a result to the caller that waits for it; drop and count it if there is none."""
        correlation = result.correlation
        reply = self._waiting.get(correlation)
        if reply is not None and not reply.done():
            reply.set_result(result)
            self._remember(correlation)
        elif correlation in self._answered:
            _duplicate.inc()
        elif not correlation:
            _uncorrelated.inc()
        elif correlation.startswith(self._prefix):
            _late.inc()
        else:
            _unknown.inc()

    def _expect(self) -> tuple[str, Reply]:
        if self._closed:
            raise Internal("the reply topic is no longer read")
        if len(self._waiting) >= self._max_in_flight:
            message = f"{len(self._waiting)} queries are waiting for their result here; try again later"
            raise Overloaded(message, reason=RefusalReason.IN_FLIGHT_LIMIT)
        correlation = f"{self._prefix}{next(self._count)}"
        reply = self._waiting[correlation] = self._loop.create_future()
        return correlation, reply

    async def _read(self) -> None:
        while True:
            for record in await self._tail.poll():
                if record.key != _CLAIM:
                    self._take(record.headers, record.value or b"")

    async def _claim(self) -> None:
        """Write a claim at intervals: the topic would otherwise be deleted as abandoned."""
        while True:
            await asyncio.sleep(CLAIM_INTERVAL_S)
            try:
                await self.producer.send_and_wait(self.reply_topic, None, key=_CLAIM)
            except (KafkaError, InfaasError) as error:
                log.warning("%s was not claimed: %s", self.reply_topic, error)

    def _take(self, headers: Iterable[tuple[str, bytes | None]], value: bytes) -> bool:
        """Accept a record; return true if it is a part for which nobody waits."""
        try:
            fields = as_text(headers)
            if PART in fields:
                return not self._take_part(fields, value)
            result = parse_result(fields, value)
        except (KeyError, ValueError) as error:
            _invalid.inc()
            log.debug("%s: received an invalid result: %r", self.reply_topic, error)
        else:
            self.deliver(result)
        return False

    def _take_part(self, fields: dict[str, str], value: bytes) -> bool:
        """Pass a part to its caller; return false if nobody waits for its answer."""
        correlation = fields.get(CORRELATION, "")
        reply = self._waiting.get(correlation)
        if reply is None or reply.done():
            return False
        listener = self._listeners.get(correlation)
        if listener is not None:
            attempt, _blank, number = fields[PART].partition(" ")
            listener.heard_s = self._loop.time()
            listener.on_part(attempt, int(number), value)
        return True

    def _expire(self, correlation: str, timeout_s: float) -> None:
        """Fail a request whose time is up, unless a part of its result arrived within the last `timeout_s`."""
        reply, listener = self._waiting.get(correlation), self._listeners.get(correlation)
        if reply is None or reply.done():
            return
        left_s = 0.0 if listener is None else listener.heard_s + timeout_s - self._loop.time()
        if listener is None or left_s <= 0.0:
            reply.set_exception(TimeoutError())
        else:
            listener.timer = self._loop.call_later(left_s, self._expire, correlation, timeout_s)

    def _remember(self, correlation: str) -> None:
        self._answered[correlation] = None
        if len(self._answered) > _ANSWERED_KEPT:
            del self._answered[next(iter(self._answered))]

    def _fail_all(self, _reading: asyncio.Task[None]) -> None:
        """Fail all waiting requests when reading ends, even if it never began."""
        self._closed = True
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(Internal("the result can no longer be read"))

    async def _delete_topic(self) -> None:
        try:
            await delete_topics(self._settings, [self.reply_topic])
        except InfaasError as error:
            log.warning("%s was not deleted: %s", self.reply_topic, error)
