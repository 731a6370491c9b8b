"""Messages that follow from records, and the decision about a message that was not acknowledged. Pure."""

from typing import Final, NamedTuple

import msgspec

from broker.kafka_types import REFUSED_BY_TOPIC, NotAllowed, Record, RecordTooLarge, UnknownTopic
from broker.reply_room import is_bounded
from process.backoff import Backoff
from schemas.errors import Internal, InvalidRequest, QueryError
from schemas.headers import RawHeaders
from schemas.result import OK
from schemas.topics import PREFIX

BACKOFF: Final = Backoff(first_s=0.1, longest_s=3.0)
"""Pauses before a message is sent again."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """Message that is sent because of a record: the forwarded query, its result or its error result."""

    topic: str
    value: bytes | None
    headers: RawHeaders
    key: bytes | None
    partition: int | None = None
    status: str = ""
    """Status of a result: `ok` or the code of an error; empty in a forwarded query."""
    stream: str = ""
    """Reply stream that a result may use, from the query's header `infaas-reply-stream`."""
    copy_to: str = ""
    """Topic that gets a copy, whose outcome is ignored; empty if there is none."""


class FailedSend(NamedTuple):
    """Message that was not acknowledged, or is not sent yet."""

    record: Record
    message: Message
    attempts: int
    error: BaseException | None
    """Cause of the failure; None if the message was not sent yet."""
    is_dead_letter: bool = False
    """True if the record is a dead letter already, and the message only reports it."""
    inside: bool = False
    """True if the message is counted in the room of its reply topic."""
    failed_s: float = 0.0
    """Time of the first failure, by the event loop's clock."""

    @property
    def size(self) -> int:
        """Bytes that the message counts in the room of its reply topic."""
        return message_size(self.record, self.message)


class PendingDeadLetter(NamedTuple):
    """Record that is to become a dead letter."""

    record: Record
    reason: str
    attempts: int
    answer: Message | None
    """Error result to send once the dead letter is written."""
    cause: FailedSend | None = None
    """Failed send that led to the dead letter. It is retried if the dead letter fails: the cause may have passed by
    then."""
    tries: int = 0
    keep_bytes: int | None = None
    """Number of bytes to keep of a larger record; None: as the budget of its topic allows."""


class Retry(NamedTuple):
    """Decision to try again after a pause."""

    delay_s: float


class GiveUp(NamedTuple):
    """Decision to make the record a dead letter."""

    reason: str
    answer: QueryError | None
    """Error to answer the client with; None if an error result could not be delivered either."""
    final: bool
    """True if every further attempt would fail, too."""


def next_step(failed: FailedSend, max_attempts: int | None) -> Retry | GiveUp:
    """Decide about a failed send. Without `max_attempts`, a failure that may pass is retried for ever."""
    message, error = failed.message, failed.error
    if isinstance(error, RecordTooLarge):
        what = f"{len(message.value or b'')} bytes are more than topic {message.topic} accepts in one record"
        answer = f"the result is too large: {what}; send fewer inputs at a time" if message.status else what
        return GiveUp(what, InvalidRequest(answer) if message.status in ("", OK) else None, final=True)
    if isinstance(error, UnknownTopic) and message.status:
        return GiveUp(f"the result's topic {message.topic} does not exist", None, final=True)
    if isinstance(error, REFUSED_BY_TOPIC) and message.status and is_bounded(message.topic):
        why = f"the result's topic {message.topic} refuses it: {type(error).__name__}"
        return GiveUp(f"{why}; see the topic's configuration", None, final=True)
    if isinstance(error, NotAllowed) and message.status and not message.topic.startswith(PREFIX):
        return GiveUp(f"the system may not write to the result's topic {message.topic}", None, final=True)
    if max_attempts is None or failed.attempts < max_attempts:
        return Retry(BACKOFF.pause_s(failed.attempts))
    reason = f"not acknowledged after {failed.attempts} attempts: {error!r}"
    return GiveUp(reason, None if message.status else Internal("the query could not be forwarded"), final=False)


def message_size(record: Record, message: Message) -> int:
    """Return the bytes of the values of a message and of the record that it follows from."""
    return len(record.value or b"") + len(message.value or b"")
