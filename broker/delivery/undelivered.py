"""Messages that follow from records and were not acknowledged: the decision about each, and their limits. Pure.

A client names its reply topic and configures it: the topic may refuse results, or acknowledge none for any time. Each
unacknowledged result holds bytes, and a place of the consumer that handed out its query. One topic therefore has 1 in
`SHARE` of the places, and all topics in trouble together 1 in `TROUBLED_SHARE` (`ReplyRoom`).

    admit -> inside: sent, and sent again while it fails -> leave
          -> outside, while the topic's room is full     -> inside as others leave
                                                         -> given up once the topic is in trouble

A topic is in trouble if it has acknowledged nothing for `STALL_S` since it first failed or was full. This module does
not decide whether Kafka as a whole is unreachable. The caller passes the time.
"""

from collections import deque
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from broker.kafka.types import REFUSED_BY_TOPIC, NotAllowed, Record, RecordTooLarge, UnknownTopic
from process.backoff import Backoff
from schemas.errors import Internal, InvalidRequest, QueryError
from schemas.headers import RawHeaders
from schemas.result import OK
from schemas.topics import JOB_RESULTS, PREFIX, RESULTS, SHADOWS

BACKOFF: Final = Backoff(first_s=0.1, longest_s=3.0)
"""Pauses before a message is sent again."""
SHARE: Final = 4
"""Divisor: one topic has this part of the places."""
TROUBLED_SHARE: Final = 2
"""Divisor: all topics in trouble together have this part of the places."""
TOPIC_BYTES: Final = 4 * 1024 * 1024
"""Largest number of bytes of queries and results inside for one topic; a larger result is admitted alone."""
STALL_S: Final = 2.0
"""Seconds without an acknowledgement after which a topic that is full or has failed is in trouble."""
_LEAST: Final = 4

_Item = TypeVar("_Item")


class _Topic(Generic[_Item]):
    __slots__ = ("bytes", "inside", "outside", "since_s")

    def __init__(self) -> None:
        self.inside = 0
        self.bytes = 0
        self.outside: deque[tuple[_Item, int]] = deque()
        self.since_s: float | None = None
        """Time at which the topic first failed or was full since its last acknowledgement; None if it did neither."""


class ReplyRoom(Generic[_Item]):
    """Room for the results of one consumer's records, by reply topic.

    Args:
        places: the consumer's limit of records in flight.
    """

    def __init__(self, places: int) -> None:
        self._most = max(places // SHARE, _LEAST)
        self._most_troubled = max(places // TROUBLED_SHARE, _LEAST)
        self._topics: dict[str, _Topic[_Item]] = {}
        self._troubled = 0
        """Number of results inside for topics that failed, or were full, since their last acknowledgement."""

    def admit(self, name: str, size: int) -> bool:
        """Admit a result of `size` bytes; False if the topic's room is full, see `wait`."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic()
        elif topic.outside or not self._fits(topic, size):
            return False
        topic.inside += 1
        topic.bytes += size
        if topic.since_s is not None:
            self._troubled += 1
        return True

    def wait(self, name: str, size: int, item: _Item, now_s: float) -> None:
        """Let a result wait outside, after `admit` returned False."""
        topic = self._topics[name]
        self._fails(topic, now_s)
        topic.outside.append((item, size))

    def leave(self, name: str, size: int, *, acknowledged: bool) -> list[_Item]:
        """Remove a result that has ended; return the results that come inside in its place."""
        topic = self._topics[name]
        if topic.since_s is not None:
            self._troubled -= 1
            if acknowledged:
                topic.since_s = None
                self._troubled -= topic.inside - 1
        topic.inside -= 1
        topic.bytes -= size
        entered: list[_Item] = []
        while topic.outside and self._fits(topic, topic.outside[0][1]):
            item, waiting = topic.outside.popleft()
            topic.inside += 1
            topic.bytes += waiting
            self._troubled += topic.since_s is not None
            entered.append(item)
        if not topic.inside:
            del self._topics[name]
        return entered

    def failed(self, name: str, now_s: float) -> None:
        """Note that a result was not acknowledged; it stays inside until `leave`."""
        self._fails(self._topics[name], now_s)

    def take_outside(self, name: str) -> list[_Item]:
        """Remove and return all results that wait outside of a topic's room."""
        topic = self._topics.get(name)
        if topic is None:
            return []
        items = [item for item, _ in topic.outside]
        topic.outside.clear()
        return items

    def waits_outside(self, name: str) -> bool:
        """Return true if results wait outside of a topic's room."""
        topic = self._topics.get(name)
        return topic is not None and bool(topic.outside)

    def in_trouble(self, name: str, now_s: float) -> bool:
        """Return true if a topic has acknowledged nothing for a while since it failed or was full."""
        topic = self._topics.get(name)
        return topic is not None and topic.since_s is not None and now_s - topic.since_s >= STALL_S

    @property
    def overfull(self) -> bool:
        """True if all failing topics together hold more results than their share."""
        return self._troubled > self._most_troubled

    def _fits(self, topic: _Topic[_Item], size: int) -> bool:
        return topic.inside < self._most and (not topic.inside or topic.bytes + size <= TOPIC_BYTES)

    def _fails(self, topic: _Topic[_Item], now_s: float) -> None:
        if topic.since_s is None:
            topic.since_s = now_s
            self._troubled += topic.inside


def is_bounded(topic: str) -> bool:
    """Return true if results for a topic are limited; the topics of task results, job results and shadows are not."""
    return not (topic.startswith(RESULTS) or topic in (JOB_RESULTS, SHADOWS))


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
