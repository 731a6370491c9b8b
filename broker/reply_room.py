"""Bounds the results that wait for each reply topic, so that a topic in trouble costs its own room only.

A reply topic is named by a client, and its configuration is the client's: it may refuse, or acknowledge nothing for as
long as it likes. Each result that is not acknowledged holds a place of the consumer that handed out its query, and
bytes. So one topic has `SHARE` of the places, and all topics in trouble together have `TROUBLED_SHARE`.

    admit -> inside: sent, and sent again while it fails -> leave
          -> outside, while the topic's room is full     -> inside as others leave
                                                         -> given up once the topic is in trouble

A topic is in trouble when it has acknowledged nothing for `STALL_S` since it first failed or was full. Whether Kafka
as a whole is away is not decided here.

No I/O and no event loop; the time comes in.
"""

from collections import deque
from typing import Final, Generic, TypeVar

from schemas.topics import JOB_RESULTS, RESULTS, SHADOWS

SHARE: Final = 4
"""A topic has one in so many of the places."""
TROUBLED_SHARE: Final = 2
"""All topics in trouble together have one in so many of the places."""
TOPIC_BYTES: Final = 4 * 1024 * 1024
"""Bytes of queries and results inside for one topic, at most; a larger one is inside alone."""
STALL_S: Final = 2.0
"""Seconds without an acknowledgement after which a topic that is full, or has failed, is in trouble."""
_LEAST: Final = 4

_Item = TypeVar("_Item")


class _Topic(Generic[_Item]):
    __slots__ = ("bytes", "inside", "outside", "since_s")

    def __init__(self) -> None:
        self.inside = 0
        self.bytes = 0
        self.outside: deque[tuple[_Item, int]] = deque()
        self.since_s: float | None = None
        """When it first failed, or was full, since its last acknowledgement."""


class ReplyRoom(Generic[_Item]):
    """Room for the results of one consumer's records, by reply topic.

    Args:
        places: number of records that the consumer hands out at once.
    """

    def __init__(self, places: int) -> None:
        self._most = max(places // SHARE, _LEAST)
        self._most_troubled = max(places // TROUBLED_SHARE, _LEAST)
        self._topics: dict[str, _Topic[_Item]] = {}
        self._troubled = 0
        """Number of results inside for topics that have failed, or were full, since their last acknowledgement."""

    def admit(self, name: str, size: int) -> bool:
        """Let a result of `size` bytes inside; False: the topic's room is full, see `wait`."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic()
        elif topic.outside or topic.inside >= self._most or (topic.inside and topic.bytes + size > TOPIC_BYTES):
            return False
        topic.inside += 1
        topic.bytes += size
        if topic.since_s is not None:
            self._troubled += 1
        return True

    def wait(self, name: str, size: int, item: _Item, now_s: float) -> bool:
        """Let a result wait outside, after `admit` has said no; returns whether it is the first that does."""
        topic = self._topics[name]
        self._fails(topic, now_s)
        topic.outside.append((item, size))
        return len(topic.outside) == 1

    def leave(self, name: str, size: int, *, acknowledged: bool) -> list[_Item]:
        """Note that a result inside has ended; returns those that waited outside and are inside now."""
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
        """Remove and return all that waits outside of a topic."""
        topic = self._topics.get(name)
        if topic is None:
            return []
        items = [item for item, _ in topic.outside]
        topic.outside.clear()
        return items

    def waits_outside(self, name: str) -> bool:
        """Whether anything waits outside of a topic."""
        topic = self._topics.get(name)
        return topic is not None and bool(topic.outside)

    def in_trouble(self, name: str, now_s: float) -> bool:
        """Whether a topic has acknowledged nothing for a while, though there was something to acknowledge."""
        topic = self._topics.get(name)
        return topic is not None and topic.since_s is not None and now_s - topic.since_s >= STALL_S

    @property
    def overfull(self) -> bool:
        """Whether all topics in trouble together hold more than they may."""
        return self._troubled > self._most_troubled

    def _fits(self, topic: _Topic[_Item], size: int) -> bool:
        return topic.inside < self._most and (not topic.inside or topic.bytes + size <= TOPIC_BYTES)

    def _fails(self, topic: _Topic[_Item], now_s: float) -> None:
        if topic.since_s is None:
            topic.since_s = now_s
            self._troubled += topic.inside


def is_bounded(topic: str) -> bool:
    """Whether the results for a topic are bounded: not in topics that the system itself makes and reads."""
    return not (topic.startswith(RESULTS) or topic in (JOB_RESULTS, SHADOWS))
