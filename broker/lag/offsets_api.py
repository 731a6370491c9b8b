"""Requests for the offsets of many partitions and groups: one per broker, whatever their number.

aiokafka asks for the ends of partitions in one request per broker, but encodes and decodes each answer field by field,
and it asks for committed offsets group by group. For 2,500 groups of four partitions, read each second, that takes most
of a second. Here a request is encoded once and sent again and again, answers are decoded by `struct`, and one request
names many groups, which Kafka supports since 3.0 (KIP-709). aiokafka still connects, authenticates, and matches answers
to requests.

Rules.
* An error of one partition or group makes only that one unknown. Only a broker that does not answer fails as a whole.
* Partitions are named even if all of a group are meant: otherwise the answer of the embedded broker is unreadable.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from broker.compact_encoding import compact, read_compact, read_varint, skip_tags, varint
from broker.encoded_request import EncodedRequest

EARLIEST: Final = -2
LATEST: Final = -1
UNKNOWN: Final = -2
"""Offset that could not be read; -1 is Kafka's answer if there is none."""

_ENDS: Final = struct.Struct(">ihqq")  # partition, error, timestamp, offset
_COMMITTED: Final = struct.Struct(">iqi")  # partition, offset, leader epoch
_ASKING: Final = struct.Struct(">ibi")  # replica, isolation, topics
_READ_COMMITTED: Final = 1
_COUNT: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">h")


class ListOffsets(EncodedRequest):
    """Request to a leader for the first or the next offset of its partitions.

    The next offset is that of the readable records: records of an open transaction, and records behind them, do not
    count.
    """

    API_KEY: ClassVar = 2
    API_VERSION: ClassVar = 2

    @classmethod
    def of(cls, partitions: Mapping[str, Sequence[int]], which: int) -> Self:
        """Encode the request for these partitions by topic; `which` is EARLIEST or LATEST."""
        parts = [_ASKING.pack(-1, _READ_COMMITTED, len(partitions))]
        for topic, numbers in partitions.items():
            name = topic.encode()
            parts += [_LENGTH.pack(len(name)), name, _COUNT.pack(len(numbers))]
            parts += [struct.pack(">iq", number, which) for number in numbers]
        return cls(b"".join(parts))


class FetchOffsets(EncodedRequest):
    """Request to a coordinator for the committed offsets of its groups."""

    API_KEY: ClassVar = 9
    API_VERSION: ClassVar = 8
    FLEXIBLE_VERSION: ClassVar = True

    @classmethod
    def of(cls, groups: Mapping[str, Mapping[str, Sequence[int]]], *, settled: bool = False) -> Self:
        """Encode the request for these partitions by group and topic.

        With `settled`, the answer is an error for a partition whose committed offset an open transaction may change.
        """
        parts = [varint(len(groups) + 1)]
        for group, topics in groups.items():
            parts += [compact(group), varint(len(topics) + 1)]
            for topic, numbers in topics.items():
                packed = struct.pack(f">{len(numbers)}i", *numbers)
                parts += [compact(topic), varint(len(numbers) + 1), packed, b"\0"]
            parts.append(b"\0")
        return cls(b"".join([*parts, bytes([settled]), b"\0"]))  # no tags


def read_offsets(answer: Any) -> Iterable[tuple[str, list[tuple[int, int]]]]:
    """Decode the answer to ListOffsets: pairs of partition and offset, or UNKNOWN, by topic."""
    data: bytes = answer.data
    (topics,) = _COUNT.unpack_from(data, 4)  # after the throttle time
    at = 8
    for _ in range(topics):
        (length,) = _LENGTH.unpack_from(data, at)
        name = data[at + 2 : at + 2 + length].decode()
        (count,) = _COUNT.unpack_from(data, at + 2 + length)
        begin = at + 6 + length
        at = begin + count * _ENDS.size
        yield (
            name,
            [(n, offset if not error else UNKNOWN) for n, error, _, offset in _ENDS.iter_unpack(data[begin:at])],
        )


def read_committed(answer: Any) -> Iterable[tuple[str, int, list[tuple[str, list[tuple[int, int]]]]]]:
    """Decode the answer to FetchOffsets: by group its error code, and by topic pairs of partition and offset.

    An offset is -1 if there is none, and UNKNOWN after an error.
    """
    data: bytes = answer.data
    groups, at = read_varint(data, 4)  # after the throttle time
    for _ in range(groups - 1):
        group, at = read_compact(data, at)
        count, at = read_varint(data, at)
        topics: list[tuple[str, list[tuple[int, int]]]] = []
        for _ in range(count - 1):
            topic, at = read_compact(data, at)
            found, at = _read_partitions(data, at)
            topics.append((topic, found))
            at = skip_tags(data, at)
        (error,) = _LENGTH.unpack_from(data, at)
        at = skip_tags(data, at + 2)
        yield group, error, topics


def _read_partitions(data: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    count, at = read_varint(data, at)
    found: list[tuple[int, int]] = []
    for _ in range(count - 1):
        number, offset, _epoch = _COMMITTED.unpack_from(data, at)
        length, at = read_varint(data, at + _COMMITTED.size)  # length of the committer's note; 0 is none
        at += max(length - 1, 0)
        found.append((number, UNKNOWN if data[at] or data[at + 1] else offset))
        at = skip_tags(data, at + 2)
    return found, at
