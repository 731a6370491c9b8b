"""Roll the segments of idle partitions, so that Kafka can delete the finished records in them.

Kafka deletes whole segments, but never the active one. It begins another segment only when a record is written after
`segment.ms`. A record is therefore written in a transaction that is aborted: no consumer reads it, and it begins the
next segment.

Rules.
* The record must not leave lag. A consumer of the partition passes it. Where there is no consumer, the offsets of the
  partition's groups are committed past it here. This is done only if the log held nothing else after `end`, so that no
  offset but those of our record and of its transaction marker is skipped.
* A failure is left to the next run: a record and its marker take only a hundred bytes.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from broker.client import connect_client, new_transactional_producer, start_client
from broker.delivery.coordinator import Coordinator
from broker.settings import KafkaSettings
from broker.topic_logs import LogPartition, partition_ends
from schemas.topics import PREFIX

log = logging.getLogger(__name__)

_CLIENT: Final = "infaas-janitor"
_TRANSACTION: Final = f"{PREFIX}janitor"
_LIMIT_S: Final = 30.0
_AGAIN_S: Final = 0.1
_AT_ONCE: Final = 100
_MARKED: Final = 2
"""Number of offsets that an aborted record and its transaction marker take."""


async def roll_segments(
    settings: KafkaSettings, ends: Mapping[LogPartition, int], groups: Mapping[str, Sequence[LogPartition]],
) -> None:  # fmt: skip
    """Begin a segment in each partition whose active segment is old enough.

    `ends` are the end offsets of the partitions; `groups` are the partitions that each group reads.

    Raises:
        KafkaError: Kafka refuses a request.
        TimeoutError: Kafka does not answer in time.
        OperatorError: Kafka cannot be reached.
    """
    async with asyncio.timeout(_LIMIT_S):
        written = await _write_aborted(settings, list(ends))
        alone = {partition for partition, offset in written.items() if offset == ends[partition]}
        behind = {partition: ends[partition] + _MARKED for partition in alone}
        now = await _until_marked(settings, behind)
        passed = {partition: end for partition, end in behind.items() if now.get(partition) == end}
        await _commit(settings, passed, groups)


async def _until_marked(settings: KafkaSettings, ends: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """Wait until the markers of the aborted transaction are in the logs; return the end offsets then."""
    while True:
        now = await partition_ends(settings, {partition.topic for partition in ends})
        if all(now.get(partition, end) >= end for partition, end in ends.items()):
            return now
        await asyncio.sleep(_AGAIN_S)


async def _write_aborted(settings: KafkaSettings, partitions: Sequence[LogPartition]) -> dict[LogPartition, int]:
    """Write a record to each partition and abort the transaction; return the offsets of the accepted records."""
    found = dict[LogPartition, int]()
    producer = new_transactional_producer(settings, _CLIENT, _TRANSACTION)
    try:
        await start_client(settings, producer.start())
        for first in range(0, len(partitions), _AT_ONCE):
            found |= await _write_some(producer, partitions[first : first + _AT_ONCE])
    finally:
        await producer.stop()
    return found


async def _write_some(producer: AIOKafkaProducer, partitions: Sequence[LogPartition]) -> dict[LogPartition, int]:
    await producer.begin_transaction()
    try:
        sent = [await producer.send(topic, b"", partition=number) for topic, number in partitions]
        acks = await asyncio.gather(*sent, return_exceptions=True)
    finally:
        await producer.abort_transaction()
    for partition, ack in zip(partitions, acks, strict=True):
        if isinstance(ack, BaseException):
            log.warning("%s/%d: no new segment: %r", *partition, ack)
    return {
        partition: ack.offset
        for partition, ack in zip(partitions, acks, strict=True)
        if not isinstance(ack, BaseException)
    }


async def _commit(
    settings: KafkaSettings, ends: Mapping[LogPartition, int], groups: Mapping[str, Sequence[LogPartition]]
) -> None:  # fmt: skip
    client = await connect_client(settings, _CLIENT)
    try:
        for group, partitions in groups.items():
            offsets = {TopicPartition(*partition): ends[partition] for partition in partitions if partition in ends}
            try:
                if offsets:
                    await Coordinator(client, group).commit(offsets, _CLIENT)
            except KafkaError as error:  # the group has members, which pass the record themselves
                log.debug("group %s passes the end of the segment itself: %r", group, error)
    finally:
        await client.close()
