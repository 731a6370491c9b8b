"""Sizes of partitions on the disks of the brokers (KIP-113); neither aiokafka nor librdkafka has a request for them."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from broker.client import connect_client
from broker.encoded_request import EncodedRequest
from broker.settings import KafkaSettings

_COUNT: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">h")
_FOLDER: Final = struct.Struct(">hh")  # error, length of the path
_SIZE: Final = struct.Struct(">iqq?")  # partition, bytes, lag of the replica, true for a replica that is being moved


class DescribeLogDirs(EncodedRequest):
    """Request to a broker for the sizes of its replicas."""

    API_KEY: ClassVar = 35
    API_VERSION: ClassVar = 1

    @classmethod
    def of(cls, partitions: Mapping[str, Sequence[int]]) -> Self:
        """Encode the request for these partitions by topic."""
        parts = [_COUNT.pack(len(partitions))]
        for topic, numbers in partitions.items():
            name = topic.encode()
            parts += [_LENGTH.pack(len(name)), name, struct.pack(f">i{len(numbers)}i", len(numbers), *numbers)]
        return cls(b"".join(parts))


async def largest_replicas(
    settings: KafkaSettings, client_id: str, partitions: Mapping[str, Sequence[int]]
) -> dict[tuple[str, int], int]:
    """Return the bytes on disk of the largest replica of each partition.

    Raises:
        KafkaError: a broker does not answer.
        OSError: a connection fails.
        OperatorError: Kafka cannot be reached.
    """
    largest = dict[tuple[str, int], int]()
    request = DescribeLogDirs.of(partitions)
    client = await connect_client(settings, client_id)
    try:
        for broker in client.cluster.brokers():
            for topic, number, size in read_sizes(await client.send(broker.nodeId, request)):
                largest[topic, number] = max(largest.get((topic, number), 0), size)
    finally:
        await client.close()
    return largest


def read_sizes(answer: Any) -> Iterable[tuple[str, int, int]]:
    """Decode the answer to DescribeLogDirs: topic, partition and bytes of each replica that is not being moved."""
    data: bytes = answer.data
    (folders,) = _COUNT.unpack_from(data, 4)  # after the throttle time
    at = 8
    for _ in range(folders):
        _error, length = _FOLDER.unpack_from(data, at)
        at += _FOLDER.size + length
        (topics,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        for _ in range(topics):
            (length,) = _LENGTH.unpack_from(data, at)
            begin = at + _LENGTH.size + length + _COUNT.size
            topic = data[at + _LENGTH.size : begin - _COUNT.size].decode()
            (count,) = _COUNT.unpack_from(data, begin - _COUNT.size)
            at = begin + count * _SIZE.size
            for number, size, _behind, is_future in _SIZE.iter_unpack(data[begin:at]):
                if not is_future:
                    yield topic, number, size
