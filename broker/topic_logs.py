"""Logs of topics on the brokers: their names, ends and sizes, the deletion of old records, and the roll of segments.

Each function opens a connection and closes it. It raises `OperatorError` if Kafka cannot be reached, `KafkaError` if it
does not answer. Each partition has its own outcome: one without a leader fails no other.

Kafka deletes whole segments, but never the active one. It begins another segment only when a record is written after
`segment.ms`. To roll the segments of idle partitions, a record is therefore written in a transaction that is aborted:
no consumer reads it, and it begins the next segment.

Rules of a roll.
* The record must not leave lag. A consumer of the partition passes it. Where there is no consumer, the offsets of the
  partition's groups are committed past it here. This is done only if the log held nothing else after `end`, so that no
  offset but those of our record and of its transaction marker is skipped.
* A failure is left to the next run: a record and its marker take only a hundred bytes.
"""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

import asyncio
import logging
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self, cast

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from confluent_kafka import IsolationLevel
from confluent_kafka import TopicPartition as AdminPartition
from confluent_kafka.admin import OffsetSpec

from broker.delivery.group import Coordinator
from broker.kafka.admin import RefusedRequest, answered, open_librdkafka_admin
from broker.kafka.client import connect_client, new_transactional_producer, open_admin, start_client
from broker.kafka.encoded_request import EncodedRequest
from broker.kafka.offsets import UNKNOWN
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import partitions_of
from schemas.errors import OperatorError
from schemas.topics import PREFIX

log = logging.getLogger(__name__)

_CLIENT: Final = "infaas-logs"
_LATEST: Final = cast(OffsetSpec, OffsetSpec.latest())
_JANITOR: Final = "infaas-janitor"
_TRANSACTION: Final = f"{PREFIX}janitor"
_ROLL_S: Final = 30.0
_AGAIN_S: Final = 0.1
_AT_ONCE: Final = 100
_MARKED: Final = 2
"""Number of offsets that an aborted record and its transaction marker take."""
_COUNT: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">h")
_FOLDER: Final = struct.Struct(">hh")  # error, length of the path
_SIZE: Final = struct.Struct(">iqq?")  # partition, bytes, lag of the replica, true for a replica that is being moved


async def topic_names(settings: KafkaSettings, *prefixes: str) -> list[str]:
    """Return the names of the topics that begin with one of the prefixes, sorted; of all topics if none is given."""
    async with open_admin(settings, _CLIENT) as admin:
        names = await admin.list_topics()
    return sorted(name for name in names if name.startswith(prefixes or ""))


async def topic_ends(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, int]:
    """Return the sum of the end offsets of each topic. A topic with an unknown partition is absent."""
    ends = await partition_ends(settings, topics)
    missing = {partition.topic for partition, end in ends.items() if end < 0}
    found = defaultdict[str, int](int)
    for partition, end in ends.items():
        found[partition.topic] += end
    return {topic: end for topic, end in found.items() if topic not in missing}


async def partition_ends(settings: KafkaSettings, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Return the end offset of each partition of the existing topics; UNKNOWN where a broker refuses.

    The end is that of the readable records: records of an open transaction, and records behind them, do not count.
    """
    wanted = {AdminPartition(*partition): _LATEST for partition in await partitions_of(settings, topics)}
    found = dict[TopicPartition, int]()
    if not wanted:
        return found
    async with open_librdkafka_admin(settings) as admin:
        futures = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED)
        for partition, future in futures.items():
            try:
                end = (await answered(future)).offset
            except RefusedRequest:
                end = UNKNOWN
            found[TopicPartition(partition.topic, partition.partition)] = end
    return found


async def bytes_on_disk(settings: KafkaSettings, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Return the bytes on disk of each partition, of its largest replica.

    Raises:
        OSError: a connection fails.
    """
    numbers = defaultdict[str, list[int]](list)
    for topic, number in await partitions_of(settings, topics):
        numbers[topic].append(number)
    if not numbers:
        return {}
    largest = defaultdict[TopicPartition, int](int)
    request = _DescribeLogDirs.of(numbers)
    client = await connect_client(settings, _CLIENT)
    try:
        for broker in client.cluster.brokers():
            for topic, number, size in _read_sizes(await client.send(broker.nodeId, request)):
                partition = TopicPartition(topic, number)
                largest[partition] = max(largest[partition], size)
    finally:
        await client.close()
    return dict(largest)


async def delete_before(settings: KafkaSettings, offsets: Mapping[TopicPartition, int]) -> set[TopicPartition]:
    """Delete the records before these offsets; return the partitions that did so, and log other errors."""
    done = set[TopicPartition]()
    if not offsets:
        return done
    async with open_librdkafka_admin(settings) as admin:
        wanted = [AdminPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
        for partition, future in admin.delete_records(wanted).items():
            try:
                await answered(future)
            except OperatorError as error:
                log.warning("%s %d keeps its records: %s", partition.topic, partition.partition, error)
            else:
                done.add(TopicPartition(partition.topic, partition.partition))
    return done


async def roll_segments(
    settings: KafkaSettings, ends: Mapping[TopicPartition, int], groups: Mapping[str, Sequence[TopicPartition]]
) -> None:
    """Begin a segment in each partition whose active segment is old enough.

    `ends` are the end offsets of the partitions; `groups` are the partitions that each group reads.

    Raises:
        TimeoutError: Kafka does not answer in time.
    """
    async with asyncio.timeout(_ROLL_S):
        written = await _write_aborted(settings, list(ends))
        alone = {partition for partition, offset in written.items() if offset == ends[partition]}
        behind = {partition: ends[partition] + _MARKED for partition in alone}
        now = await _until_marked(settings, behind)
        passed = {partition: end for partition, end in behind.items() if now.get(partition) == end}
        await _commit(settings, passed, groups)


async def _until_marked(settings: KafkaSettings, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Wait until the markers of the aborted transaction are in the logs; return the end offsets then."""
    while True:
        now = await partition_ends(settings, {partition.topic for partition in ends})
        if all(now.get(partition, end) >= end for partition, end in ends.items()):
            return now
        await asyncio.sleep(_AGAIN_S)


async def _write_aborted(settings: KafkaSettings, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Write a record to each partition and abort the transaction; return the offsets of the accepted records."""
    found = dict[TopicPartition, int]()
    producer = new_transactional_producer(settings, _JANITOR, _TRANSACTION)
    try:
        await start_client(settings, producer.start())
        for first in range(0, len(partitions), _AT_ONCE):
            found |= await _write_some(producer, partitions[first : first + _AT_ONCE])
    finally:
        await producer.stop()
    return found


async def _write_some(producer: AIOKafkaProducer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    await producer.begin_transaction()
    try:
        sent = [await producer.send(topic, b"", partition=number) for topic, number in partitions]
        acks = await asyncio.gather(*sent, return_exceptions=True)
    finally:
        await producer.abort_transaction()
    found = dict[TopicPartition, int]()
    for partition, ack in zip(partitions, acks, strict=True):
        if isinstance(ack, BaseException):
            log.warning("%s/%d: no new segment: %r", *partition, ack)
        else:
            found[partition] = ack.offset
    return found


async def _commit(
    settings: KafkaSettings, ends: Mapping[TopicPartition, int], groups: Mapping[str, Sequence[TopicPartition]]
) -> None:
    client = await connect_client(settings, _JANITOR)
    try:
        for group, partitions in groups.items():
            offsets = {partition: ends[partition] for partition in partitions if partition in ends}
            try:
                if offsets:
                    await Coordinator(client, group).commit(offsets, _JANITOR)
            except KafkaError as error:  # the group has members, which pass the record themselves
                log.debug("group %s passes the end of the segment itself: %r", group, error)
    finally:
        await client.close()


class _DescribeLogDirs(EncodedRequest):
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


def _read_sizes(answer: Any) -> Iterable[tuple[str, int, int]]:
    """Decode the answer: topic, partition and bytes of each replica that is not being moved."""
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
