"""Ends the segments of partitions to which nothing is written, so that Kafka deletes what is done in them.

Kafka deletes whole segments, never the one that is written to, and begins another only when something is written after
`segment.ms`. So a record is written in a transaction that is aborted: nobody reads it, and the next segment holds it.

Rules.
* It leaves no lag: who reads the partition passes it. Where nobody does, its groups are committed past it here; the
  offset is that of our own record and its mark only if the log held nothing else after `end`.
* What fails is left to the next time: a record, or its mark, takes a hundred bytes.
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
from broker.topic_logs import LogPartition, TopicLogs
from schemas.topics import PREFIX

log = logging.getLogger(__name__)

_CLIENT: Final = "infaas-janitor"
_TRANSACTION: Final = f"{PREFIX}janitor"
_LIMIT_S: Final = 30.0
_AGAIN_S: Final = 0.1
_AT_ONCE: Final = 100
_MARKED: Final = 2
"""Offsets that an aborted record and its mark take."""


async def roll_segments(
    settings: KafkaSettings, logs: TopicLogs, ends: Mapping[LogPartition, int],
    groups: Mapping[str, Sequence[LogPartition]],
) -> None:  # fmt: skip
    """Have partitions begin a segment, if their last one is old enough; `groups` are those that read them.

    Raises:
        KafkaError: Kafka does not take it.
        TimeoutError: it does not answer in time.
        OperatorError: it cannot be reached.
    """
    async with asyncio.timeout(_LIMIT_S):
        written = await _write_aborted(settings, list(ends))
        alone = {partition for partition, offset in written.items() if offset == ends[partition]}
        behind = {partition: ends[partition] + _MARKED for partition in alone}
        now = await _until_marked(logs, behind)
        passed = {partition: end for partition, end in behind.items() if now.get(partition) == end}
        await _commit(settings, passed, groups)


async def _until_marked(logs: TopicLogs, ends: Mapping[LogPartition, int]) -> dict[LogPartition, int]:
    """Wait until the marks that end the transaction stand in the logs; returns where these end then."""
    while True:
        now = await logs.partition_ends({partition.topic for partition in ends})
        if all(now.get(partition, end) >= end for partition, end in ends.items()):
            return now
        await asyncio.sleep(_AGAIN_S)


async def _write_aborted(settings: KafkaSettings, partitions: Sequence[LogPartition]) -> dict[LogPartition, int]:
    """Write a record to each that nobody reads; returns the offsets of those that were taken."""
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
            log.warning("%s %d begins no segment: %r", *partition, ack)
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
            except KafkaError as error:  # it has members, who pass it themselves
                log.debug("group %s passes the end of a segment by itself: %r", group, error)
    finally:
        await client.close()
