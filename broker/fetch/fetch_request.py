"""Fetch requests: the longest wait of each, the session with a broker, and the encoding. No I/O, no clock.

Wait (`FetchPace`). Most readers of a system are idle, and each empty fetch costs time on both sides. Apache Kafka
answers a waiting fetch as soon as a record arrives, so a longer wait adds no latency. The embedded broker does not;
there, the first record after an idle period is late by at most the longer wait. If the broker does not wake fetches
(`wakes` is false) and the settings do not set `fetch_max_wait_ms`, the shorter wait is `UNWOKEN_MS`. `infaas up` sets
`fetch_max_wait_ms` for its services; a client in another program asks the broker for its features.

Session (`FetchSession`): a request names only partitions that changed (KIP-227).

    first request: all -> the broker's answer names the session -> the next ones: moved partitions, removed ones
                                                                -> any doubt: all again, in place of the old session

* A request without an answer leaves a doubt: the broker may or may not have applied it.
* A broker that gives no session gets all partitions each time. Kafka keeps a bounded number of sessions, the embedded
  broker none.

Encoding by `struct`; the batches of each partition stay encoded. aiokafka needs at least 45 µs to encode and decode a
fetch of twelve partitions, for each query that arrives alone. Here it takes 6 µs.
"""

import random
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Self, TypeAlias

from aiokafka import TopicPartition

from broker.fetch.fetched_partition import Divergence
from broker.fetch.record_batches import AbortedTransaction
from broker.kafka.encoded_request import EncodedRequest, compact, find_tag, read_compact, read_varint, skip_tags, varint
from broker.kafka.settings import KafkaSettings

IDLE_FACTOR: Final = 20
"""Largest ratio of the longer wait to the shorter one, which is 500 ms on Apache Kafka and 10 ms on the embedded
broker."""
LONGEST_MS: Final = 5_000
UNWOKEN_MS: Final = 10
"""Shorter wait in ms if the broker does not wake a waiting fetch; an answer is late by at most this."""
_IDLE_AFTER_S: Final = 2.0
_LAZY_AFTER_S: Final = 0.25

ONCE: Final = -1
"""Epoch of a request without a session."""
_ALL: Final = 0
"""Epoch of a request that begins a session, and ends the one that it names."""
_LAST: Final = 2**31 - 1

_ANY_REPLICA: Final = -1
_HEAD: Final = struct.Struct(">iiiibii")  # replica, wait, least bytes, most bytes, isolation, session, its epoch
_ASKED: Final = struct.Struct(">iiqiqix")  # partition, leader epoch, offset, last epoch, log start, bytes, no tags
_NUMBER: Final = struct.Struct(">i")
_ANSWER: Final = struct.Struct(">ihi")  # throttle time, error, session
_PART: Final = struct.Struct(">ihqqq")  # partition, error, end, last stable offset, start of the log
_ABORTED: Final = struct.Struct(">qq")  # producer id, offset of its first record
_REPLICA_BYTES: Final = 4  # a nearer replica, for clients that send their rack
_DIVERGED: Final = 0  # tag of the point where logs diverge
_DIVERGENCE: Final = struct.Struct(">iq")  # epoch, offset
_READ_COMMITTED: Final = 1
_ANY_LEADER: Final = -1
_NO_START: Final = -1
_NO_RACK_NOR_TAGS: Final = b"\1\0"
_NO_TAGS: Final = b"\0"

Place: TypeAlias = tuple[int, int, int]
"""Offset from which a partition is read, epoch of the leader that wrote the record before it, and largest number of
bytes."""


class FetchPace:
    """Longest wait of each fetch of one reader."""

    def __init__(
        self, settings: KafkaSettings, *, longest_ms: int = LONGEST_MS, lazy: bool = False, wakes: bool = True
    ) -> None:
        """Compute the waits from the settings.

        Args:
            settings: the settings; `fetch_max_wait_ms` is the shorter wait.
            longest_ms: upper bound of the longer wait.
            lazy: use the shorter wait only while records closely follow each other, not after a single record.
            wakes: true if the broker answers a waiting fetch as soon as a record arrives.
        """
        said = "fetch_max_wait_ms" in settings.model_fields_set
        self._short_ms = settings.fetch_max_wait_ms if wakes or said else UNWOKEN_MS
        longest_ms = min(IDLE_FACTOR * self._short_ms, longest_ms, settings.request_timeout_ms // 2)
        self.long_ms = max(self._short_ms, longest_ms)
        """Longest wait of a fetch while no records arrive, in ms."""
        self._idle_after_s = _LAZY_AFTER_S if lazy else _IDLE_AFTER_S
        self._lazy = lazy
        self._found_s: float | None = None
        self._idle_from_s: float | None = None

    def wait_ms(self, now_s: float) -> int:
        """Return the longest wait of a fetch that is sent now, in ms."""
        if self._idle_from_s is None:
            self._idle_from_s = now_s + self._idle_after_s
        return self.long_ms if now_s >= self._idle_from_s else self._short_ms

    def found(self, now_s: float) -> None:
        """Note that a fetch has returned records."""
        if not self._lazy or (self._found_s is not None and now_s - self._found_s < self._idle_after_s):
            self._idle_from_s = now_s + self._idle_after_s
        self._found_s = now_s


class SessionRequest(NamedTuple):
    """Part of a fetch request that depends on the session."""

    session: int
    epoch: int
    read: list[tuple[TopicPartition, Place]]
    """Partitions that are new to the broker or have moved; the others of the session are read as well."""
    forget: list[TopicPartition]


class FetchSession:
    """Fetch session of one reader with one broker: one request after the other. Its cost is that of the changes."""

    def __init__(self, *, lasting: bool = True) -> None:
        """Ask the broker to keep a session, if `lasting`."""
        self._lasting = lasting
        self._id = 0
        self._epoch = self._next = _ALL if lasting else ONCE
        self._wanted: dict[TopicPartition, Place] = {}
        self._sent: dict[TopicPartition, Place] = {}
        """Wanted places as of the last request."""
        self._touched: dict[TopicPartition, None] = {}
        """Partitions that were wanted or forgotten since the last request."""

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def is_kept(self) -> bool:
        """True if the broker kept the session when it answered last."""
        return self._id != 0

    def want(self, partition: TopicPartition, place: Place) -> bool:
        """Read a partition from this place on; return true if the last request does not."""
        self._wanted[partition] = place
        self._touched[partition] = None
        return self._sent.get(partition) != place

    def forget(self, partition: TopicPartition) -> None:
        """Read a partition no longer."""
        self._wanted.pop(partition, None)
        self._touched[partition] = None

    def sent(self, partition: TopicPartition) -> Place | None:
        """Return the place from which the last request reads a partition; None if it does not."""
        return self._sent.get(partition)

    def request(self) -> SessionRequest:
        """Return the next request."""
        if self._epoch > _ALL:
            read, forget = self._changes()
        else:
            # The first partitions fill the answer if its size is limited. In a session the broker takes turns.
            read, forget = random.sample([*self._wanted.items()], len(self._wanted)), []
            self._sent = self._wanted.copy()
        self._touched.clear()
        request = SessionRequest(self._id, self._epoch, read, forget)
        if self._lasting:
            self._epoch, self._next = _ALL, self._epoch % _LAST + 1  # a new session, unless this one is answered
        return request

    def _changes(self) -> tuple[list[tuple[TopicPartition, Place]], list[TopicPartition]]:
        read: list[tuple[TopicPartition, Place]] = []
        forget: list[TopicPartition] = []
        for partition in self._touched:
            place, sent = self._wanted.get(partition), self._sent.get(partition)
            if place is None:
                if self._sent.pop(partition, None) is not None:
                    forget.append(partition)
            elif place != sent:
                read.append((partition, place))
                self._sent[partition] = place
        return read, forget

    def answered(self, session: int) -> None:
        """Note that the request was answered under this session; 0: the broker gives none."""
        self._id = session
        if session and self._lasting:
            self._epoch = self._next


class PartitionData(NamedTuple):
    """Answer about one partition."""

    key: TopicPartition
    code: int
    end: int
    """Offset behind the partition's last readable record; records of an open transaction lie behind it."""
    data: bytes
    aborted: Sequence[AbortedTransaction] = ()
    """Aborted transactions that may have records in `data`, in any order."""
    diverged: Divergence | None = None
    """Point where the log differs from the one that was read so far; None: nowhere. There is no data then."""


class FetchAnswer(NamedTuple):
    """Answer to Fetch."""

    code: int
    session: int
    partitions: Iterator[PartitionData]


class Fetch(EncodedRequest):
    """Request to a leader for records of its partitions.

    Since this version, answers tell where a log was cut (KIP-595).
    """

    API_KEY: ClassVar = 1
    API_VERSION: ClassVar = 12
    FLEXIBLE_VERSION: ClassVar = True

    @classmethod
    def of(cls, request: SessionRequest, wait_ms: int, most_bytes: int) -> Self:
        """Encode the request; the broker answers when there is a byte or more, or after `wait_ms`."""
        read: defaultdict[str, list[bytes]] = defaultdict(list)
        for (topic, number), (position, epoch, size) in request.read:
            read[topic].append(_ASKED.pack(number, _ANY_LEADER, position, epoch, _NO_START, size))
        forget: defaultdict[str, list[bytes]] = defaultdict(list)
        for topic, number in request.forget:
            forget[topic].append(_NUMBER.pack(number))
        session = request.session, request.epoch
        head = _HEAD.pack(_ANY_REPLICA, wait_ms, 1, most_bytes, _READ_COMMITTED, *session)
        return cls(b"".join([head, *_by_topic(read), *_by_topic(forget), _NO_RACK_NOR_TAGS]))


def _by_topic(packed: dict[str, list[bytes]]) -> Iterator[bytes]:
    yield varint(len(packed) + 1)
    for topic, partitions in packed.items():
        yield compact(topic) + varint(len(partitions) + 1)
        yield from partitions
        yield _NO_TAGS


def read_fetched(answer: Any) -> FetchAnswer:
    """Decode the answer to Fetch; in a session it names only partitions with news."""
    data: bytes = answer.data
    _throttled, code, session = _ANSWER.unpack_from(data)
    return FetchAnswer(code, session, _read_topics(data))


def _read_topics(data: bytes) -> Iterator[PartitionData]:
    topics, at = read_varint(data, _ANSWER.size)
    for _ in range(topics - 1):
        topic, at = read_compact(data, at)
        count, at = read_varint(data, at)
        for _ in range(count - 1):
            found, at = _read_partition(data, at, topic)
            yield found
        at = skip_tags(data, at)


def _read_partition(data: bytes, at: int, topic: str) -> tuple[PartitionData, int]:
    number, code, end, stable, _start = _PART.unpack_from(data, at)
    count, at = read_varint(data, at + _PART.size)
    aborted: list[AbortedTransaction] = []
    for _ in range(count - 1):
        aborted.append(AbortedTransaction(*_ABORTED.unpack_from(data, at)))
        at = skip_tags(data, at + _ABORTED.size)
    length, begin = read_varint(data, at + _REPLICA_BYTES)
    stop = begin + max(length - 1, 0)
    tag, at = find_tag(data, stop, _DIVERGED)
    diverged = None if tag < 0 else Divergence(*_DIVERGENCE.unpack_from(data, tag))
    end = stable if 0 <= stable < end else end  # a broker without transactions may send none
    return PartitionData(TopicPartition(topic, number), code, end, data[begin:stop], aborted, diverged), at
