"""Messages that follow from records, and the decision about one that was not acknowledged: pure."""

from typing import Final, NamedTuple

import msgspec

from broker.kafka_types import REFUSED_BY_TOPIC, NotAllowed, Record, RecordTooLarge, UnknownTopic
from broker.reply_room import is_bounded
from schemas.errors import Internal, InvalidRequest, QueryError
from schemas.headers import RawHeaders
from schemas.result import OK
from schemas.topics import PREFIX

RETRY_DELAYS_S: Final = (0.1, 0.3, 1.0, 3.0)
"""Pauses before the second attempt, the third, and so on; the last one before all further ones."""


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


class FailedSend(NamedTuple):
    """A message that was not acknowledged, or is yet to be sent."""

    record: Record
    message: Message
    attempts: int
    error: BaseException | None
    """Why it failed; None: it was not sent yet."""
    is_dead_letter: bool = False
    """Whether the record is a dead letter by now, and the message only tells so."""
    inside: bool = False
    """Whether it is counted in the room of its reply topic."""
    failed_s: float = 0.0
    """When it failed first, by the event loop's time."""

    @property
    def size(self) -> int:
        """Bytes that it counts in the room of its reply topic."""
        return message_size(self.record, self.message)


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


def next_step(failed: FailedSend, max_attempts: int | None) -> Retry | GiveUp:
    """Decide what to do about a failure; `max_attempts` None: what can pass is tried again for ever."""
    message, error = failed.message, failed.error
    if isinstance(error, RecordTooLarge):
        what = f"{len(message.value or b'')} bytes are more than topic {message.topic} takes in one record"
        answer = f"the result is too large: {what}; ask for fewer inputs at a time" if message.status else what
        return GiveUp(what, InvalidRequest(answer) if message.status in ("", OK) else None, final=True)
    if isinstance(error, UnknownTopic) and message.status:
        return GiveUp(f"the result's topic {message.topic} does not exist", None, final=True)
    if isinstance(error, REFUSED_BY_TOPIC) and message.status and is_bounded(message.topic):
        why = f"the result's topic {message.topic} refuses it: {type(error).__name__}"
        return GiveUp(f"{why}; see the topic's configuration", None, final=True)
    if isinstance(error, NotAllowed) and message.status and not message.topic.startswith(PREFIX):
        return GiveUp(f"the system may not write to the result's topic {message.topic}", None, final=True)
    if max_attempts is None or failed.attempts < max_attempts:
        return Retry(retry_delay_s(failed.attempts))
    reason = f"could not be sent in {failed.attempts} attempts: {error!r}"
    return GiveUp(reason, None if message.status else Internal("the query could not be forwarded"), final=False)


def message_size(record: Record, message: Message) -> int:
    """Bytes of a message and of the record that it follows from."""
    return len(record.value or b"") + len(message.value or b"")


def retry_delay_s(attempts: int) -> float:
    """Seconds to wait after so many attempts, at least one."""
    return RETRY_DELAYS_S[min(attempts, len(RETRY_DELAYS_S)) - 1]
