"""Logs of topics on the brokers: their names, ends and sizes, and the deletion of old records.

Each function opens a connection and closes it. Each partition has its own outcome: one without a leader fails no other.
"""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names here, and its types do not mark them as exported.

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, cast

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec

from broker.client import open_admin
from broker.lag.offsets_api import UNKNOWN
from broker.librdkafka_admin import RefusedRequest, answered, open_librdkafka_admin
from broker.log_sizes import largest_replicas
from broker.settings import KafkaSettings
from broker.topics import partitions_of
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

_CLIENT: Final = "infaas-logs"
_LATEST: Final = cast(OffsetSpec, OffsetSpec.latest())


class LogPartition(NamedTuple):
    """Partition of a topic."""

    topic: str
    number: int


async def topic_names(settings: KafkaSettings, *prefixes: str) -> list[str]:
    """Return the names of the topics that begin with one of the prefixes, sorted; of all topics if none is given.

    Raises:
        KafkaError: Kafka does not answer.
        OperatorError: Kafka cannot be reached.
    """
    async with open_admin(settings, _CLIENT) as admin:
        names = await admin.list_topics()
    return sorted(name for name in names if name.startswith(prefixes or ""))


async def topic_ends(settings: KafkaSettings, topics: Iterable[str]) -> dict[str, int]:
    """Return the sum of the end offsets of each topic. A topic with an unknown partition is absent.

    Raises:
        KafkaError: Kafka does not answer.
        OperatorError: Kafka cannot be reached.
    """
    ends = await partition_ends(settings, topics)
    missing = {partition.topic for partition, end in ends.items() if end < 0}
    found = defaultdict[str, int](int)
    for partition, end in ends.items():
        found[partition.topic] += end
    return {topic: end for topic, end in found.items() if topic not in missing}


async def partition_ends(settings: KafkaSettings, topics: Iterable[str]) -> dict[LogPartition, int]:
    """Return the end offset of each partition of the existing topics; UNKNOWN where a broker refuses.

    The end is that of the readable records: records of an open transaction, and records behind them, do not count.

    Raises:
        KafkaError: Kafka does not answer.
        OperatorError: Kafka cannot be reached.
    """
    wanted = {TopicPartition(*partition): _LATEST for partition in await partitions_of(settings, topics)}
    found = dict[LogPartition, int]()
    if not wanted:
        return found
    async with open_librdkafka_admin(settings) as admin:
        futures = admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED)
        for partition, future in futures.items():
            try:
                end = (await answered(future)).offset
            except RefusedRequest:
                end = UNKNOWN
            found[LogPartition(partition.topic, partition.partition)] = end
    return found


async def bytes_on_disk(settings: KafkaSettings, topics: Iterable[str]) -> dict[LogPartition, int]:
    """Return the bytes on disk of each partition, of its largest replica.

    Raises:
        KafkaError: Kafka does not answer.
        OSError: a connection fails.
        OperatorError: Kafka cannot be reached.
    """
    numbers = defaultdict[str, list[int]](list)
    for topic, number in await partitions_of(settings, topics):
        numbers[topic].append(number)
    largest = await largest_replicas(settings, _CLIENT, numbers) if numbers else {}
    return {LogPartition(*partition): size for partition, size in largest.items()}


async def delete_before(settings: KafkaSettings, offsets: Mapping[LogPartition, int]) -> set[LogPartition]:
    """Delete the records before these offsets; return the partitions that did so, and log other errors.

    Raises:
        OperatorError: Kafka cannot be reached.
    """
    done = set[LogPartition]()
    if not offsets:
        return done
    async with open_librdkafka_admin(settings) as admin:
        wanted = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
        for partition, future in admin.delete_records(wanted).items():
            try:
                await answered(future)
            except OperatorError as error:
                log.warning("%s %d keeps its records: %s", partition.topic, partition.partition, error)
            else:
                done.add(LogPartition(partition.topic, partition.partition))
    return done
