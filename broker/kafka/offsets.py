"""Offsets of partitions and groups: starts, ends, offsets of times, committed offsets.

`find_offsets` asks for some partitions, by aiokafka's request. For many it is slow: aiokafka encodes and decodes field
by field, and asks for committed offsets group by group. For 2,500 groups of four partitions, read each second, that
takes most of a second. The requests of this module are therefore encoded once and sent again and again, answers are
decoded by `struct`, and one request names many groups, which Kafka supports since 3.0 (KIP-709).

Rules.
* An error of one partition or group makes only that one unknown. Only a broker that does not answer fails as a whole.
* Partitions are named even if all of a group are meant: otherwise the answer of the embedded broker is unreadable.
"""

import asyncio
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, NoError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.offset import OffsetRequest

from broker.kafka.encoded_request import EncodedRequest, compact, read_compact, read_varint, skip_tags, varint

END: Final = -1
START: Final = -2
UNKNOWN: Final = -2
"""Offset that could not be read; -1 is Kafka's answer if there is none."""

_ENDS: Final = struct.Struct(">ihqq")  # partition, error, timestamp, offset
_COMMITTED: Final = struct.Struct(">iqi")  # partition, offset, leader epoch
_ASKING: Final = struct.Struct(">ibi")  # replica, isolation, topics
_READ_COMMITTED: Final = 1
_COUNT: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">h")


async def find_offsets(client: AIOKafkaClient, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Find an offset of each partition: its `START`, its `END`, or that of the first record of a time in ms or later.

    A partition without a record of that time or later is absent.

    Raises:
        KafkaError: a partition has no leader, or its leader does not answer.
    """
    by_node: dict[int, dict[TopicPartition, int]] = {}
    for partition, time_ms in wanted.items():
        node = client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            raise LeaderNotAvailableError(partition)
        by_node.setdefault(node, {})[partition] = time_ms
    answers = await asyncio.gather(*(_ask(client, node, asked) for node, asked in by_node.items()))
    return {partition: offset for answer in answers for partition, offset in answer.items()}


async def _ask(client: AIOKafkaClient, node: int, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    topics: dict[str, list[tuple[int, int]]] = {}
    for partition, time_ms in wanted.items():
        topics.setdefault(partition.topic, []).append((partition.partition, time_ms))
    response: Any = await client.send(node, OffsetRequest(-1, 0, list(topics.items())))
    found: dict[TopicPartition, int] = {}
    for topic, partitions in response.topics:
        for number, code, *answer in partitions:
            error = for_code(code)
            if error is not NoError:
                raise error(TopicPartition(topic, number))
            offset = answer[-1] if response.API_VERSION else (answer[0] or [-1])[0]
            if offset >= 0:
                found[TopicPartition(topic, number)] = offset
    if len(found) < sum(time_ms < 0 for time_ms in wanted.values()):
        raise UnknownTopicOrPartitionError
    return found


class ListOffsets(EncodedRequest):
    """Request to a leader for the first or the next offset of its partitions.

    The next offset is that of the readable records: records of an open transaction, and records behind them, do not
    count.
    """

    API_KEY: ClassVar = 2
    API_VERSION: ClassVar = 2

    @classmethod
    def of(cls, partitions: Mapping[str, Sequence[int]], which: int) -> Self:
        """Encode the request for these partitions by topic; `which` is `START` or `END`."""
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
