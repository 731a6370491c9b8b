"""Requests about topics that aiokafka's admin client lacks, or makes too coarse.

It can only replace all of a topic's configuration, also what somebody else set; here single values change. It does not
ask how large partitions are on disk. And where the records of many partitions are deleted, one without a leader fails
them all; here each is answered for itself.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from aiokafka.protocol.admin import DeleteRecordsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Int64, Schema, String

log = logging.getLogger(__name__)

TIMEOUT_MS: Final = 10_000
_SET: Final = 0
_TOPIC: Final = ConfigResourceType.TOPIC.value


class _AlterConfigsResponse(Response):
    API_KEY = 44  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    API_VERSION = 0  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA: ClassVar = Schema(
        ("throttle_time_ms", Int32),
        ("resources", Array(("error", Int16), ("message", String()), ("type", Int8), ("name", String()))),
    )


class _AlterConfigsStruct(RequestStruct):
    API_KEY: ClassVar = 44
    API_VERSION: ClassVar = 0
    RESPONSE_TYPE: ClassVar = _AlterConfigsResponse
    SCHEMA: ClassVar = Schema(
        (
            "resources",
            Array(
                ("type", Int8),
                ("name", String()),
                ("configs", Array(("key", String()), ("operation", Int8), ("value", String()))),
            ),
        ),
        ("validate_only", Boolean),
    )


class _AlterConfigs(Request[_AlterConfigsStruct]):
    """Request to set single values of topics (KIP-339)."""

    API_KEY: ClassVar = 44

    def __init__(self, configs: Mapping[str, Mapping[str, str]]) -> None:
        self._resources = [
            (_TOPIC, topic, [(key, _SET, value) for key, value in values.items()]) for topic, values in configs.items()
        ]

    def build(self, request_struct_class: type[_AlterConfigsStruct]) -> _AlterConfigsStruct:
        return request_struct_class(self._resources, False)


class _LogDirsResponse(Response):
    API_KEY = 35  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    API_VERSION = 1  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA: ClassVar = Schema(
        ("throttle_time_ms", Int32),
        (
            "folders",
            Array(
                ("error", Int16),
                ("folder", String()),
                (
                    "topics",
                    Array(
                        ("name", String()),
                        (
                            "partitions",
                            Array(("partition", Int32), ("bytes", Int64), ("behind", Int64), ("is_future", Boolean)),
                        ),
                    ),
                ),
            ),
        ),
    )


class _LogDirsStruct(RequestStruct):
    API_KEY: ClassVar = 35
    API_VERSION: ClassVar = 1
    RESPONSE_TYPE: ClassVar = _LogDirsResponse
    SCHEMA: ClassVar = Schema(("topics", Array(("name", String()), ("partitions", Array(Int32)))))


class _LogDirs(Request[_LogDirsStruct]):
    """Request to one broker for the sizes of its replicas (KIP-113)."""

    API_KEY: ClassVar = 35

    def __init__(self, topics: Mapping[str, Sequence[int]]) -> None:
        self._topics = [(topic, list(numbers)) for topic, numbers in topics.items()]

    def build(self, request_struct_class: type[_LogDirsStruct]) -> _LogDirsStruct:
        return request_struct_class(self._topics)


# -- configuration -----------------------------------------------------------------------------------------------------


async def read_configs(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, Iterable[str]]
) -> dict[str, dict[str, str | None]]:
    """Read these configuration values by topic; a topic whose configuration may not be read is absent, and logged."""
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(keys, "")) for topic, keys in wanted.items()
    ]
    found = dict[str, dict[str, str | None]]()
    answers: list[Any] = await admin.describe_configs(resources)
    for answer in answers:
        for code, message, _type, topic, entries in answer.resources:
            if code:
                log.warning("the configuration of %s is unknown: %s", topic, message or for_code(code).description)
            else:
                found[topic] = {entry[0]: entry[1] for entry in entries}
    return found


async def set_configs(admin: AIOKafkaAdminClient, configs: Mapping[str, Mapping[str, str]]) -> None:
    """Set these configuration values by topic, and leave all others; what the broker refuses is logged."""
    try:
        answer: Any = await admin._client.send(  # pyright: ignore[reportPrivateUsage] - there is no other way
            admin._client.get_random_node(),  # pyright: ignore[reportPrivateUsage]
            _AlterConfigs(configs),
        )
    except IncompatibleBrokerVersion:
        log.warning("this broker cannot change topics: %d are kept as they are configured", len(configs))
        return
    for code, message, _type, topic in answer.resources:
        if code:
            log.error("%s keeps a wrong configuration: %s", topic, message or for_code(code).description)


# -- logs --------------------------------------------------------------------------------------------------------------


async def delete_records(client: AIOKafkaClient, before: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Delete the records before these offsets; returns where the partitions begin now that did so, the rest is logged.

    Raises:
        KafkaError: Kafka cannot be asked who leads them.
    """
    found = dict[TopicPartition, int]()
    leaders = await _leaders(client, {partition.topic for partition in before})
    by_leader = defaultdict[int, defaultdict[str, list[tuple[int, int]]]](lambda: defaultdict(list))
    for partition, offset in before.items():
        if (leader := leaders.get(partition, -1)) >= 0:
            by_leader[leader][partition.topic].append((partition.partition, offset))
    for leader, topics in by_leader.items():
        try:
            answer: Any = await client.send(leader, DeleteRecordsRequest(topics.items(), TIMEOUT_MS))
        except (KafkaError, OSError) as error:
            log.warning("broker %d does not delete records: %r", leader, error)
            continue
        for topic, partitions, *_ in answer.topics:
            for number, begin, code, *_ in partitions:
                if code:
                    log.warning("%s %d keeps its records: %s", topic, number, for_code(code).__name__)
                else:
                    found[TopicPartition(topic, number)] = begin
    return found


async def topic_bytes(client: AIOKafkaClient, topics: Iterable[str]) -> dict[str, int]:
    """Bytes of these topics on disk, of the largest replica of each partition; unknown ones are absent.

    Raises:
        KafkaError: a broker does not answer: then nothing is known.
    """
    numbers = defaultdict[str, list[int]](list)
    for partition in await _leaders(client, set(topics)):
        numbers[partition.topic].append(partition.partition)
    sizes = dict[TopicPartition, int]()
    for broker in client.cluster.brokers() if numbers else ():
        answer: Any = await client.send(broker.nodeId, _LogDirs(numbers))
        for _code, _folder, found, *_ in answer.folders:
            for topic, partitions in found:
                for number, size, _behind, is_future in partitions:
                    if not is_future:
                        key = TopicPartition(topic, number)
                        sizes[key] = max(sizes.get(key, 0), size)
    total = defaultdict[str, int](int)
    for partition, size in sizes.items():
        total[partition.topic] += size
    return dict(total)


async def _leaders(client: AIOKafkaClient, topics: set[str]) -> dict[TopicPartition, int]:
    """Leaders of all partitions of the topics that exist; -1 where there is none."""
    if not topics:
        return {}
    request = MetadataRequest(sorted(topics), allow_auto_topic_creation=False)
    answer: Any = await client.send(client.get_random_node(), request)
    client.cluster.update_metadata(answer)
    return {
        TopicPartition(name, part[1]): part[2]
        for error, name, _internal, partitions in answer.topics
        if not error
        for part in partitions
    }
