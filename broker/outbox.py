"""Sends what follows from a record, and says when the record is done: once that is acknowledged.

    send -> acknowledged -> done
         -> failed       -> after a pause sent again, or decided on again
                         -> given up: dead letter -> error result to whoever asked, if there can be one -> done

Rules.
* A result that names a reply stream goes there if it can go at once; else, or if it is not acknowledged, to its topic.
* Nobody waits for an acknowledgement: it arrives as a callback, without a future.
* `next_step` alone judges a failure. What cannot succeed is final at once, whatever `max_attempts` says: a result whose
  topic does not exist, or is a client's and not ours to write, anything that is larger than Kafka takes. All else is
  tried again: a topic of the system's own that it may not write is the operator's to mend.
* What failed is sent again by topic, each topic in a task of its own: one in trouble holds up no other. It is bounded
  by what the consumer hands out, for each failure is that of a record that is out.
* While Kafka is away dead letters fail like all else. Then what was given up only because attempts ran out begins anew:
  an outage makes no dead letter of what could still be answered.

Hot: `send` and `_on_sent`, once a query in selectors and workers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace
from prometheus_client import Counter

from broker.dead_letters import publish_dead_letter, record_bytes
from broker.kafka_types import KafkaError, NotAllowed, Record, RecordTooLarge, UnknownTopic
from broker.producer import Ack, RecordSender
from broker.reply_stream.sender import ResultSender
from schemas.errors import Internal, InvalidRequest, QueryError
from schemas.headers import RawHeaders
from schemas.result import OK
from schemas.topics import DEAD_LETTERS, PREFIX

log = logging.getLogger(__name__)

RETRY_DELAYS_S: Final = (0.1, 0.3, 1.0, 3.0)
"""Pauses before the second attempt, the third, and so on; the last one before all further ones."""

WRITTEN: Final = Counter("infaas_dead_letters_total", "Records that became dead letters", ["topic"])


class Message(msgspec.Struct, frozen=True, gc=False):
    """What is sent because of a record: the query on its way, its result or its error result."""

    topic: str
    value: bytes | None
    headers: RawHeaders
    key: bytes | None
    partition: int | None = None
    status: str = ""
    """`ok` or the error's code in a result; empty in a query on its way."""
    stream: str = ""
    """Where else a result may go, as the query's header `infaas-reply-stream` says."""
    copy_to: str = ""
    """Topic that gets a copy, whatever becomes of that; empty: none does."""


def _forget(_outcome: object) -> None:
    """Take no note of what became of a copy."""


class FailedSend(NamedTuple):
    """A message that was not acknowledged, or is yet to be sent."""

    record: Record
    message: Message
    attempts: int
    error: BaseException | None
    """Why it failed; None: it was not sent yet."""
    is_dead_letter: bool = False
    """Whether the record is a dead letter by now, and the message only tells so."""


class PendingDeadLetter(NamedTuple):
    """A record that is to become a dead letter."""

    record: Record
    reason: str
    attempts: int
    answer: Message | None
    """The error result to send once the dead letter is written."""
    cause: FailedSend | None = None
    """The failure that may have passed by the time at which the dead letter can be written."""
    tries: int = 0
    keep_bytes: int | None = None
    """How much is kept of a record that is larger; None: all."""


class Retry(NamedTuple):
    """Decision to try again after a pause."""

    delay_s: float


class GiveUp(NamedTuple):
    """Decision to make the record a dead letter."""

    reason: str
    answer: QueryError | None
    """Error that whoever asked is told; None: an error result would not arrive either."""
    final: bool
    """Whether any further attempt would fail, too."""


ProvedTenant: TypeAlias = Callable[[Record], str]
"""Function that tells the tenant that a record's signature proves to ask; empty: nobody's."""
Done: TypeAlias = Callable[[Record, Message | None], None]
"""Callback with a record that is finished, and what was sent last because of it; None: only a dead letter was."""
MakeErrorResult: TypeAlias = Callable[[Record, QueryError], Message | None]
"""Function that makes the error result of a record; None if the record does not say where to send it."""
DecideAgain: TypeAlias = Callable[[Record, int], Awaitable[None]]
"""Function that finds another way for a query that could not be sent on; takes the number of the attempt."""


def next_step(failed: FailedSend, max_attempts: int | None) -> Retry | GiveUp:
    """Decide what to do about a failure; `max_attempts` None: what can pass is tried again for ever."""
    message, error = failed.message, failed.error
    if isinstance(error, RecordTooLarge):
        what = f"{len(message.value or b'')} bytes are more than topic {message.topic} takes in one record"
        answer = f"the result is too large: {what}; ask for fewer inputs at a time" if message.status else what
        return GiveUp(what, InvalidRequest(answer) if message.status in ("", OK) else None, final=True)
    if isinstance(error, UnknownTopic) and message.status:
        return GiveUp(f"the result's topic {message.topic} does not exist", None, final=True)
    if isinstance(error, NotAllowed) and message.status and not message.topic.startswith(PREFIX):
        return GiveUp(f"the system may not write to the result's topic {message.topic}", None, final=True)
    if max_attempts is None or failed.attempts < max_attempts:
        return Retry(retry_delay_s(failed.attempts))
    reason = f"could not be sent in {failed.attempts} attempts: {error!r}"
    return GiveUp(reason, None if message.status else Internal("the query could not be forwarded"), final=False)


def retry_delay_s(attempts: int) -> float:
    """Seconds to wait after so many attempts, at least one."""
    return RETRY_DELAYS_S[min(attempts, len(RETRY_DELAYS_S)) - 1]


class Outbox:
    """Sender of what follows from records, which retries and writes dead letters, used within one event loop.

    `retry_failed` runs beside those who send.
    """

    def __init__(
        self,
        sender: RecordSender,
        done: Done,
        make_error_result: MakeErrorResult,
        *,
        max_attempts: int | None = None,
        decide_again: DecideAgain | None = None,
        streams: ResultSender | None = None,
        proved_tenant: ProvedTenant = lambda _record: "",
    ) -> None:
        """Make an outbox; a query on its way that failed is sent again as it is, unless there is `decide_again`."""
        self._sender = sender
        self._done = done
        self._make_error_result = make_error_result
        self._max_attempts = max_attempts
        self._decide_again = decide_again
        self._streams = streams
        self._proved_tenant = proved_tenant
        self._due: dict[str, deque[FailedSend | PendingDeadLetter]] = {}
        self._resending: set[str] = set()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def send(
        self,
        record: Record,
        message: Message,
        attempts: int = 1,
        on_outcome: Callable[[Ack | None], None] | None = None,
        *,
        is_dead_letter: bool = False,
    ) -> None:
        """Send what follows from `record`; waits only while too much is unacknowledged.

        `on_outcome` is told how this attempt ended: where a query on its way was written, or None.
        """
        if message.copy_to:
            await self._sender.post(message.copy_to, message.value, _forget, key=message.key, headers=message.headers)
        if message.stream and self._streams is not None:
            on_end = partial(self._on_streamed, record, message, attempts, is_dead_letter)
            if self._streams.send(message.stream, message.headers, message.value or b"", on_end):
                return
        await self._sender.post(
            message.topic,
            message.value,
            partial(self._on_sent, record, message, attempts, is_dead_letter, on_outcome),
            key=message.key,
            headers=message.headers,
            partition=message.partition,
        )

    def give_up(
        self, record: Record, reason: str, answer: Message | None = None, attempts: int = 1, *,
        keep_bytes: int | None = None,
    ) -> None:  # fmt: skip
        """Make `record`, or what `keep_bytes` leaves of it, a dead letter, then send `answer`; then it is done."""
        letter = PendingDeadLetter(record, reason, attempts, answer, keep_bytes=keep_bytes)
        self._put_aside(DEAD_LETTERS, letter, 0.0)

    async def retry_failed(self) -> None:
        """Send again what failed, and write the dead letters of what was given up, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for topic in self._due.keys() - self._resending:
                    self._resending.add(topic)
                    tasks.create_task(self._resend(topic), name=f"resend to {topic}")

    def _on_sent(
        self,
        record: Record,
        message: Message,
        attempts: int,
        is_dead_letter: bool,
        on_outcome: Callable[[Ack | None], None] | None,
        outcome: Ack | KafkaError,
    ) -> None:
        written = outcome if isinstance(outcome, Ack) else None
        if on_outcome is not None:
            on_outcome(written)
        if isinstance(outcome, Ack):
            self._done(record, message)
        else:
            self._on_failure(FailedSend(record, message, attempts, outcome, is_dead_letter))

    def _on_streamed(self, record: Record, message: Message, attempts: int, is_dead_letter: bool, taken: bool) -> None:
        if taken:
            self._done(record, message)
            return
        by_topic = FailedSend(record, replace(message, stream=""), attempts - 1, None, is_dead_letter)
        self._put_aside(message.topic, by_topic, 0.0)

    # -- after a failure, in the order of events -----------------------------------------------------------------------

    def _on_failure(self, failed: FailedSend) -> None:
        record, step = failed.record, next_step(failed, self._max_attempts)
        if isinstance(step, Retry):
            self._put_aside(failed.message.topic, failed, step.delay_s)
            return
        log.warning("%s: gave up on record %d/%d: %s", record.topic, record.partition, record.offset, step.reason)
        if failed.is_dead_letter:
            self._done(record, None)
            return
        answer = self._make_error_result(record, step.answer) if step.answer is not None else None
        cause = None if step.final else failed
        self._put_aside(DEAD_LETTERS, PendingDeadLetter(record, step.reason, failed.attempts, answer, cause), 0.0)

    def _put_aside(self, topic: str, item: FailedSend | PendingDeadLetter, after_s: float) -> None:
        self._loop.call_later(after_s, self._on_due, topic, item)

    def _on_due(self, topic: str, item: FailedSend | PendingDeadLetter) -> None:
        self._due.setdefault(topic, deque()).append(item)
        self._wake.set()

    async def _resend(self, topic: str) -> None:
        """Send again all that is due to a topic; what fails once more comes back later."""
        due = self._due[topic]
        errors = [item.error for item in due if isinstance(item, FailedSend) and item.error is not None]
        if errors:
            log.warning("%s: %d records not acknowledged, sending them again: %r", topic, len(errors), errors[0])
        try:
            while due:
                await self._try_again(due.popleft())
                await asyncio.sleep(0)  # a thousand of them must not keep the loop from others
        finally:
            self._resending.discard(topic)
            del self._due[topic]

    async def _try_again(self, item: FailedSend | PendingDeadLetter) -> None:
        if isinstance(item, PendingDeadLetter):
            written = await publish_dead_letter(
                self._sender, item.record, item.reason, item.attempts, keep_bytes=item.keep_bytes,
                tenant=self._proved_tenant(item.record),
            )  # fmt: skip
            written.add_done_callback(partial(self._on_dead_letter, item))
        elif item.message.status or self._decide_again is None:
            await self.send(item.record, item.message, item.attempts + 1, is_dead_letter=item.is_dead_letter)
        else:
            await self._decide_again(item.record, item.attempts + 1)

    def _on_dead_letter(self, letter: PendingDeadLetter, written: "asyncio.Future[Ack]") -> None:
        if written.cancelled():
            return
        record, error = letter.record, written.exception()
        if error is None:
            WRITTEN.labels(record.topic).inc()
            if letter.answer is None:
                self._done(record, None)
            else:
                answer = FailedSend(record, letter.answer, 0, None, is_dead_letter=True)
                self._put_aside(letter.answer.topic, answer, 0.0)
        elif isinstance(error, RecordTooLarge) and letter.keep_bytes != 0:
            size = record_bytes(record) if letter.keep_bytes is None else letter.keep_bytes
            self._put_aside(DEAD_LETTERS, letter._replace(keep_bytes=size // 2), 0.0)
        elif letter.cause is not None:
            log.warning("a dead letter was not acknowledged, starting over: %r", error)
            self._put_aside(letter.cause.message.topic, letter.cause._replace(attempts=1), retry_delay_s(1))
        else:
            log.warning("a dead letter was not acknowledged: %r", error)
            again = letter._replace(tries=letter.tries + 1)
            self._put_aside(DEAD_LETTERS, again, retry_delay_s(again.tries))
