"""Logs of topics on the brokers: their partitions, ends and sizes, and the deletion of old records.

aiokafka's admin client cannot request the size of partitions. When it deletes records of many partitions, one partition
without a leader fails all of them; here each partition has its own outcome.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Self

from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DeleteRecordsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Int64, Schema, String

from broker.client import new_client, start_client
from broker.lag.offsets_api import LATEST, UNKNOWN, ListOffsets, read_offsets
from broker.settings import KafkaSettings

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

log = logging.getLogger(__name__)

TIMEOUT_MS: Final = 10_000
_CLIENT_METADATA_MS: Final = 24 * 3_600_000
"""Almost never: the client would refresh the metadata of all topics; here each request looks up its leaders."""


class LogPartition(NamedTuple):
    """Partition of a topic."""

    topic: str
    number: int


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


class TopicLogs:
    """Logs of topics; an async context manager, whose methods only one task at a time may call.

    Each method raises KafkaError or OSError if Kafka does not answer.
    """

    def __init__(self, settings: KafkaSettings, client_id: str = "infaas-logs") -> None:
        self._settings = settings
        self._client_id = client_id
        self._client: AIOKafkaClient
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._client = new_client(self._settings, self._client_id, metadata_max_age_ms=_CLIENT_METADATA_MS)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._client.close)
            await start_client(self._settings, self._client.bootstrap())
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def topics(self, prefix: str) -> list[str]:
        """Return the names of the topics that begin with `prefix`, sorted."""
        names = {partition.topic for partition in await self._leaders(None)}
        return sorted(name for name in names if name.startswith(prefix))

    async def ends(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the sum of the end offsets of each topic. A topic with an unknown partition is absent."""
        ends = await self.partition_ends(topics)
        missing = {partition.topic for partition, end in ends.items() if end < 0}
        found = defaultdict[str, int](int)
        for partition, end in ends.items():
            found[partition.topic] += end
        return {topic: end for topic, end in found.items() if topic not in missing}

    async def partition_ends(self, topics: Iterable[str]) -> dict[LogPartition, int]:
        """Return the end offset of each partition; UNKNOWN where no broker answers for it."""
        leaders = await self._leaders(topics)
        found = dict.fromkeys(leaders, UNKNOWN)
        for leader, led in _by_leader(leaders).items():
            answer: Any = await self._client.send(leader, ListOffsets.of(led, LATEST))
            for topic, offsets in read_offsets(answer):
                found |= {LogPartition(topic, number): offset for number, offset in offsets}
        return found

    async def bytes_on_disk(self, topics: Iterable[str]) -> dict[LogPartition, int]:
        """Return the bytes on disk of each partition, of its largest replica."""
        numbers = defaultdict[str, list[int]](list)
        for partition in await self._leaders(topics):
            numbers[partition.topic].append(partition.number)
        largest = dict[LogPartition, int]()
        for broker in self._client.cluster.brokers() if numbers else ():
            answer: Any = await self._client.send(broker.nodeId, _LogDirs(numbers))
            for _error, _folder, found in answer.folders:
                for topic, partitions in found:
                    for number, size, _behind, is_future in partitions:
                        if not is_future:
                            key = LogPartition(topic, number)
                            largest[key] = max(largest.get(key, 0), size)
        return largest

    async def delete_before(self, offsets: Mapping[LogPartition, int]) -> set[LogPartition]:
        """Delete the records before these offsets; return the partitions that did so, and log other errors."""
        leaders = await self._leaders({partition.topic for partition in offsets})
        done = set[LogPartition]()
        for leader, led in _by_leader({partition: leaders.get(partition, -1) for partition in offsets}).items():
            wanted = {topic: [(n, offsets[LogPartition(topic, n)]) for n in numbers] for topic, numbers in led.items()}
            try:
                answer: Any = await self._client.send(leader, DeleteRecordsRequest(wanted.items(), TIMEOUT_MS))
            except (KafkaError, OSError) as error:
                log.warning("broker %d does not delete records: %r", leader, error)
                continue
            for topic, partitions, *_ in answer.topics:
                for number, _begin, error, *_ in partitions:
                    if error:
                        log.warning("%s %d keeps its records: %s", topic, number, for_code(error).__name__)
                    else:
                        done.add(LogPartition(topic, number))
        return done

    async def _leaders(self, topics: Iterable[str] | None) -> dict[LogPartition, int]:
        """Return the leader of each partition of the existing topics, or of all topics for None; -1 if it has none."""
        names = None if topics is None else sorted(set(topics))
        if names is not None and not names:
            return {}
        # Not by the client's own metadata: the client would refresh these topics from then on.
        request = MetadataRequest(names, allow_auto_topic_creation=False)
        answer: Any = await self._client.send(self._client.get_random_node(), request)
        self._client.cluster.update_metadata(answer)
        return {
            LogPartition(name, part[1]): part[2]
            for error, name, _internal, partitions in answer.topics
            if not error
            for part in partitions
        }


def _by_leader(leaders: Mapping[LogPartition, int]) -> dict[int, dict[str, list[int]]]:
    """Return partition numbers by leader and topic; partitions without a leader are left out."""
    found = defaultdict[int, dict[str, list[int]]](dict)
    for partition, leader in leaders.items():
        if leader >= 0:
            found[leader].setdefault(partition.topic, []).append(partition.number)
    return dict(found)
