"""Outbox: sends the messages that follow from a record, and reports the record as done once they are acknowledged.

    send -> acknowledged -> done
         -> failed       -> after a pause sent again, or decided on again
                         -> given up: dead letter -> error result to the client, if there can be one -> done

Rules.
* A result that names a reply stream is sent there if that is possible at once. Otherwise, or if it is not acknowledged,
  it goes to its topic.
* `send` does not wait for an acknowledgement: it arrives as a callback, without a future.
* Only `next_step` judges a failure. A failure that cannot pass is final at once, whatever `max_attempts` is: the topic
  of a result does not exist; a client's topic refuses the result or may not be written by the system; a message exceeds
  Kafka's size limit. All other failures are retried. If the system may not write to one of its own topics, the operator
  has to grant access.
* The bytes of a result count as in flight (`hold`), so a consumer whose results cannot be sent takes no more records.
* Failed messages are retried by topic, each topic in its own task, so one failing topic delays no other. Their number
  is bounded by the consumer's limit, since each of them belongs to a record in flight.
* A client's reply topic has a share of the consumer's places (`ReplyRoom`). While Kafka acknowledges other records, a
  failing result is given up at its query's deadline, or after `KafkaSettings.result_timeout_s`. It is given up at once
  if the share of its topic, or that of all failing topics, is used up.
* During an outage of Kafka, dead letters fail like all other records. A record that was given up only because its
  attempts ran out then starts over, so an outage creates no dead letter for a query that can still be answered.

Hot: `send` and `_on_sent` run once per query in workers. Selectors send queries themselves, and only hand over the ones
that were not acknowledged (`failed`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from msgspec.structs import replace
from prometheus_client import Counter

from broker.dead_letters.letter import LetterBudget, publish_dead_letter
from broker.delivery.undelivered import (
    BACKOFF,
    STALL_S,
    FailedSend,
    GiveUp,
    Message,
    PendingDeadLetter,
    ReplyRoom,
    Retry,
    is_bounded,
    message_size,
    next_step,
)
from broker.kafka.types import KafkaError, Record, RecordTooLarge, record_bytes
from broker.producing.producer import Ack, Producer
from broker.replies.sender import ResultSender
from schemas.errors import QueryError
from schemas.headers import as_text
from schemas.query import read_deadline_ms
from schemas.topics import DEAD_LETTERS, variant_of

__all__ = ["Message", "Outbox"]

log = logging.getLogger(__name__)

SURE_S: Final = 10.0
"""Seconds for which Kafka must have acknowledged other records before a failure counts as the topic's own. An attempt
that times out takes as long."""
_SAY_S: Final = 10.0
"""Seconds between two log lines about records that were given up."""

WRITTEN: Final = Counter("infaas_dead_letters_total", "Records that became dead letters", ["topic"])
SHORTENED: Final = Counter(
    "infaas_dead_letters_shortened_total", "Dead letters that hold only the beginning of their record", ["topic"]
)


def _forget(_outcome: object) -> None:
    """Ignore the outcome of a copy."""


ProvedTenant: TypeAlias = Callable[[Record], str]
"""Function that returns the tenant that a record's signature proves; empty if none."""
Done: TypeAlias = Callable[[Record, Message | None], None]
"""Callback with a finished record and the last message sent for it; None if only a dead letter was written."""
Hold: TypeAlias = Callable[[Record, int], None]
"""Callback with a record and the bytes that it and its result hold together, until it is done; may be called again."""
MakeErrorResult: TypeAlias = Callable[[Record, QueryError], Message | None]
"""Function that returns the error result of a record; None if the record does not name a place to send it to."""
DecideAgain: TypeAlias = Callable[[Record, int], Awaitable[None]]
"""Function that finds another way for a query that could not be forwarded; takes the number of the attempt."""


class Outbox:
    """Sender of the messages that follow from records, with retries and dead letters; used within one event loop.

    `retry_failed` must run while messages are sent.
    """

    def __init__(
        self,
        sender: Producer,
        done: Done,
        make_error_result: MakeErrorResult,
        *,
        max_attempts: int | None = None,
        decide_again: DecideAgain | None = None,
        streams: ResultSender | None = None,
        proved_tenant: ProvedTenant = lambda _record: "",
        hold: Hold = lambda _record, _size: None,
        places: int = 1000,
    ) -> None:
        """Make an outbox; a query that could not be forwarded is sent again unchanged, unless there is `decide_again`.

        `places` is the consumer's limit of records in flight.
        """
        self._sender = sender
        self._done = done
        self._make_error_result = make_error_result
        self._max_attempts = max_attempts
        self._decide_again = decide_again
        self._streams = streams
        self._proved_tenant = proved_tenant
        self._hold = hold
        self._letters = LetterBudget()
        self._room = ReplyRoom[FailedSend](places)
        self._looking: set[str] = set()
        """Topics for which a check is scheduled whether results still wait outside of their room."""
        self._given_up, self._said_s = 0, -_SAY_S
        self._due: dict[str, deque[FailedSend | PendingDeadLetter]] = {}
        self._resending: set[str] = set()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def send(
        self,
        record: Record,
        message: Message,
        attempts: int = 1,
        *,
        is_dead_letter: bool = False,
    ) -> None:
        """Send a message that follows from `record`; wait only while too many records are not acknowledged."""
        if message.status:
            self._hold(record, message_size(record, message))
        if message.copy_to:
            await self._sender.post(message.copy_to, message.value, _forget, key=message.key, headers=message.headers)
        if message.stream and self._streams is not None:
            on_end = partial(self._on_streamed, record, message, attempts, is_dead_letter)
            if self._streams.send(message.stream, message.headers, message.value or b"", on_end):
                return
        inside = bool(message.status) and is_bounded(message.topic)
        if inside and not self._admit(record, message, attempts, is_dead_letter):
            return
        await self._post(FailedSend(record, message, attempts, None, is_dead_letter, inside))

    def give_up(
        self, record: Record, reason: str, answer: Message | None = None, attempts: int = 1, *,
        keep_bytes: int | None = None,
    ) -> None:  # fmt: skip
        """Write a dead letter for `record`, send `answer` after it, then report the record as done.

        `keep_bytes` limits the bytes of the record that are kept; None applies the budget of its topic.
        """
        letter = PendingDeadLetter(record, reason, attempts, answer, keep_bytes=keep_bytes)
        self._put_aside(DEAD_LETTERS, letter, 0.0)

    def failed(self, record: Record, message: Message, attempts: int, error: KafkaError) -> None:
        """Take over a message that the caller sent itself, and that was not acknowledged."""
        self._on_failure(FailedSend(record, message, attempts, error, failed_s=self._loop.time()))

    async def retry_failed(self) -> None:
        """Retry failed messages and write the dead letters of records that were given up, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for topic in self._due.keys() - self._resending:
                    self._resending.add(topic)
                    tasks.create_task(self._resend(topic), name=f"resend to {topic}")

    async def _post(self, sent: FailedSend) -> None:
        message = sent.message
        await self._sender.post(
            message.topic, message.value, partial(self._on_sent, sent), key=message.key,
            headers=message.headers, partition=message.partition,
        )  # fmt: skip

    def _on_sent(self, sent: FailedSend, outcome: Ack | KafkaError) -> None:
        if isinstance(outcome, Ack):
            if sent.inside:
                self._leave(sent, acknowledged=True)
            self._done(sent.record, sent.message)
        else:
            self._on_failure(sent._replace(error=outcome, failed_s=sent.failed_s or self._loop.time()))

    def _on_streamed(self, record: Record, message: Message, attempts: int, is_dead_letter: bool, taken: bool) -> None:
        if taken:
            self._done(record, message)
            return
        by_topic = FailedSend(record, replace(message, stream=""), attempts - 1, None, is_dead_letter)
        self._put_aside(message.topic, by_topic, 0.0)

    # -- the room of reply topics --------------------------------------------------------------------------------------

    def _admit(self, record: Record, message: Message, attempts: int, is_dead_letter: bool) -> bool:
        """Admit a result to its topic's room; False if it waits outside, or is given up."""
        topic, size, room = message.topic, message_size(record, message), self._room
        if not (room.overfull and self._refuses(topic)) and room.admit(topic, size):
            return True
        held = FailedSend(record, message, attempts - 1, None, is_dead_letter)
        if self._refuses(topic):
            self._give_up_outside(topic, [held])
            return False
        room.wait(topic, size, held, self._loop.time())
        self._look_later(topic)
        return False

    def _leave(self, sent: FailedSend, *, acknowledged: bool) -> None:
        for entered in self._room.leave(sent.message.topic, sent.size, acknowledged=acknowledged):
            self._put_aside(sent.message.topic, entered._replace(inside=True), 0.0)

    def _refuses(self, topic: str) -> bool:
        """Return true if a topic is in trouble while Kafka acknowledges other records."""
        return self._room.in_trouble(topic, self._loop.time()) and self._sender.acknowledging_s() >= SURE_S

    def _look_later(self, topic: str) -> None:
        if topic not in self._looking:
            self._looking.add(topic)
            self._loop.call_later(STALL_S, self._look, topic)

    def _look(self, topic: str) -> None:
        self._looking.discard(topic)
        if self._refuses(topic):
            self._give_up_outside(topic, self._room.take_outside(topic))
        elif self._room.waits_outside(topic):
            self._look_later(topic)

    def _give_up_outside(self, topic: str, items: Sequence[FailedSend]) -> None:
        reason = f"the result's topic {topic} does not acknowledge results, and its quota of pending results is used up"
        for item in items:
            self._bury(item, GiveUp(reason, None, final=False))

    def _hopeless(self, failed: FailedSend) -> str:
        """Return why a failed result is given up although it could be retried; empty if it is retried."""
        if not failed.inside or self._sender.acknowledging_s() < SURE_S:
            return ""
        if self._room.overfull:
            return "quota of failing reply topics used up"
        if self._loop.time() - failed.failed_s >= self._sender.result_timeout_s:
            return f"not acknowledged for {self._sender.result_timeout_s:g} s: {failed.error!r}"
        if self._is_late(failed.record):
            return f"not acknowledged before the query's deadline: {failed.error!r}"
        return ""

    def _is_late(self, record: Record) -> bool:
        try:
            forwarded = variant_of(record.topic) is not None
            deadline_ms = read_deadline_ms(as_text(record.headers), record.timestamp, forwarded=forwarded)
        except (QueryError, UnicodeError):
            return False
        return deadline_ms is not None and deadline_ms <= self._sender.now_ms()

    # -- after a failure, in the order of events -----------------------------------------------------------------------

    def _on_failure(self, failed: FailedSend) -> None:
        if failed.inside:
            self._room.failed(failed.message.topic, self._loop.time())
        step = next_step(failed, self._max_attempts)
        if isinstance(step, Retry) and (reason := self._hopeless(failed)):
            step = GiveUp(f"the result could not be sent to {failed.message.topic}: {reason}", None, final=False)
        if isinstance(step, Retry):
            self._put_aside(failed.message.topic, failed, step.delay_s)
            return
        if failed.inside:
            self._leave(failed, acknowledged=False)
        self._bury(failed, step)

    def _bury(self, failed: FailedSend, step: GiveUp) -> None:
        """Write a dead letter for the record of a message that is given up, unless there is one already."""
        record = failed.record
        self._say(record, step.reason)
        if failed.is_dead_letter:
            self._done(record, None)
            return
        answer = self._make_error_result(record, step.answer) if step.answer is not None else None
        cause = None if step.final else failed._replace(inside=False, failed_s=0.0)
        letter = PendingDeadLetter(record, step.reason, max(failed.attempts, 1), answer, cause)
        self._put_aside(DEAD_LETTERS, letter, 0.0)

    def _say(self, record: Record, reason: str) -> None:
        """Log that records were given up, at most once in `_SAY_S`."""
        self._given_up += 1
        if (now_s := self._loop.time()) - self._said_s < _SAY_S:
            return
        log.warning(
            "gave up on %d records, the last %s/%d/%d: %s",
            self._given_up, record.topic, record.partition, record.offset, reason,
        )  # fmt: skip
        self._given_up, self._said_s = 0, now_s

    def _put_aside(self, topic: str, item: FailedSend | PendingDeadLetter, after_s: float) -> None:
        self._loop.call_later(after_s, self._on_due, topic, item)

    def _on_due(self, topic: str, item: FailedSend | PendingDeadLetter) -> None:
        self._due.setdefault(topic, deque()).append(item)
        self._wake.set()

    async def _resend(self, topic: str) -> None:
        """Retry all messages that are due for a topic; schedule the ones that fail again."""
        due = self._due[topic]
        errors = [item.error for item in due if isinstance(item, FailedSend) and item.error is not None]
        if errors:
            log.warning("%s: %d records not acknowledged, sending them again: %r", topic, len(errors), errors[0])
        try:
            while due:
                await self._try_again(due.popleft())
                await asyncio.sleep(0)  # a thousand retries must not block the event loop
        finally:
            self._resending.discard(topic)
            del self._due[topic]

    async def _try_again(self, item: FailedSend | PendingDeadLetter) -> None:
        if isinstance(item, PendingDeadLetter):
            if item.keep_bytes is None:
                size = record_bytes(item.record)
                item = item._replace(keep_bytes=self._letters.keep_bytes(item.record.topic, size, self._loop.time()))
            written = await publish_dead_letter(
                self._sender, item.record, item.reason, item.attempts, keep_bytes=item.keep_bytes,
                tenant=self._proved_tenant(item.record),
            )  # fmt: skip
            written.add_done_callback(partial(self._on_dead_letter, item))
        elif item.inside:
            await self._post(item._replace(attempts=item.attempts + 1))
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
            if letter.keep_bytes is not None and record_bytes(record) > letter.keep_bytes:
                SHORTENED.labels(record.topic).inc()
            if letter.answer is None:
                self._done(record, None)
            else:
                answer = FailedSend(record, letter.answer, 0, None, is_dead_letter=True)
                self._put_aside(letter.answer.topic, answer, 0.0)
            return
        if letter.keep_bytes is None:
            self._letters.give_back(record.topic, record_bytes(record))
        if isinstance(error, RecordTooLarge) and letter.keep_bytes != 0:
            size = record_bytes(record) if letter.keep_bytes is None else letter.keep_bytes
            self._put_aside(DEAD_LETTERS, letter._replace(keep_bytes=size // 2), 0.0)
        elif letter.cause is not None:
            log.warning("a dead letter was not acknowledged, starting over: %r", error)
            self._put_aside(letter.cause.message.topic, letter.cause._replace(attempts=1), BACKOFF.pause_s(1))
        else:
            log.warning("a dead letter was not acknowledged: %r", error)
            again = letter._replace(tries=letter.tries + 1)
            self._put_aside(DEAD_LETTERS, again, BACKOFF.pause_s(again.tries))
