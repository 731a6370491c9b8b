"""Directory of topics and their partitions; records for unknown ones wait aside, for a bounded time.

    known: the topic's queues, at once
    else:  aside -> requested -> found: into its queue, in order
                              -> we may not use it: fails at once
                              -> reported missing for METADATA_S: fails, and the topic is remembered for a moment
                              -> no answer: fails at its own deadline, with an error that may be retried

Rules.
* Names that clients invented are requested separately, a few at a time. So they do not affect other topics, and no
  broker creates topics for them. The client's own metadata follows only topics that exist.
* If many topics are unknown, each is waited for less long, since a waiting message holds a place of a consumer.
* A name that no topic can have is never requested: one that is too long would break the client's metadata for good.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest

from broker.producing.batch_sender import BatchSender
from broker.producing.partition_queue import PartitionQueue, choose_queue
from broker.producing.records import PendingRecord
from schemas.topics import is_topic

log = logging.getLogger(__name__)

METADATA_S: Final = 2.0
"""Seconds that a record waits for a topic, or a partition, that the broker reports as missing."""
MISSING_FOR_S: Final = 2.0
"""Seconds for which records for a missing topic are refused at once."""
MANY: Final = 20
"""Number of unknown topics beyond which each is waited for only `_IMPATIENT_S`."""
_IMPATIENT_S: Final = 0.2
_LOOK_INTERVAL_S: Final = 0.05
_ASKED_AT_ONCE: Final = 200
_DENIED: Final = (TopicAuthorizationFailedError.errno, UnknownTopicOrPartitionError.errno)


class _UnknownTopic:
    """Topic that is looked for, and the records that wait for it."""

    __slots__ = ("denied", "records", "settled", "since")

    def __init__(self, now: float) -> None:
        self.records: deque[tuple[PendingRecord, int | None]] = deque()
        """Records with their partitions."""
        self.since = now
        self.denied: KafkaError | None = None
        """Error of the broker if the topic or partition does not exist, or may not be used."""
        self.settled = asyncio.Event()


class TopicLookup:
    """Directory of the topics that one producer writes to, within one event loop."""

    def __init__(self, client: AIOKafkaClient, sender: BatchSender, max_records: int) -> None:
        """Make a directory in which at most `max_records` wait aside."""
        self.ready: dict[str, list[PartitionQueue]] = {}
        """Queues of the known topics for which no record waits aside, by topic."""
        self._client = client
        self._sender = sender
        self._followed: dict[str, list[PartitionQueue]] = {}
        """Queues of all topics that exist or recently did."""
        self._aside: dict[str, _UnknownTopic] = {}
        self._missing: dict[str, tuple[float, KafkaError]] = {}
        """Time until which a missing topic is refused, and the error, by topic."""
        self._max_records = max_records
        self._records = 0
        """Number of records that wait aside, counted again at each lookup."""
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        client.cluster.add_listener(self._on_metadata)

    def refusal(self, topic: str) -> KafkaError | None:
        """Return why a record for a topic that is not ready must not wait for it; None if it may."""
        until, why = self._missing.get(topic, (0.0, None))
        if until > self._loop.time():
            return why
        if not is_topic(topic):
            return UnknownTopicOrPartitionError(f"{topic[:100]!r} is not a valid topic name")
        if self._records >= self._max_records:
            return KafkaError(f"{self._records} records wait for unknown topics, so none can wait for {topic}")
        return None

    def put_aside(self, topic: str, record: PendingRecord, partition: int | None) -> None:
        """Let a record wait until its topic, or its partition, is known."""
        self._look_for(topic).records.append((record, partition))
        self._records += 1

    async def prefetch(self, topics: Iterable[str]) -> None:
        """Look for topics that are not known; missing ones are skipped."""
        unknown = [topic for topic in topics if topic not in self.ready]
        searched = [self._look_for(topic) for topic in unknown if is_topic(topic)]
        try:
            async with asyncio.timeout(2 * METADATA_S):
                for search in searched:
                    await search.settled.wait()
        except TimeoutError:
            log.warning("cannot read the topics from Kafka")

    async def refresh(self) -> None:
        """Request the partitions of all known topics again."""
        async with asyncio.timeout(METADATA_S):
            await self._client.force_metadata_update()

    async def run(self) -> None:
        """Look for the topics of waiting records, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._aside:
                await self._look()
                self._settle()
                await asyncio.sleep(_LOOK_INTERVAL_S)

    def close(self, error: KafkaError) -> None:
        """Fail all records that wait aside."""
        for topic in list(self._aside):
            self._end(topic, error)

    # -- known topics --------------------------------------------------------------------------------------------------

    def _on_metadata(self, cluster: ClusterMetadata) -> None:
        for topic, queues in list(self._followed.items()):
            numbers: set[int] | None = cluster.partitions_for_topic(topic)
            if numbers is None:
                self._vanished(topic, queues)
                continue
            queues += [PartitionQueue(topic, number) for number in range(len(queues), max(numbers, default=-1) + 1)]
            for queue in queues:
                leader = cluster.leader_for_partition(TopicPartition(topic, queue.number))
                queue.leader = -1 if leader is None else leader
            if queues and topic not in self._aside:
                self.ready[topic] = queues
        self._sender.metadata_changed()

    def _queues(self, topic: str) -> list[PartitionQueue]:
        """Return the queues of a topic; empty if the topic is not known to exist."""
        there = self._client.cluster.partitions_for_topic(topic) is not None
        return self._followed.get(topic, []) if there else []

    def _vanished(self, topic: str, queues: list[PartitionQueue]) -> None:
        """Remove a deleted topic from `ready`, and forget it once no record waits for its partitions."""
        self.ready.pop(topic, None)
        for queue in queues:
            queue.leader = -1
        if topic in self._aside or any(queue.busy for queue in queues):
            return
        del self._followed[topic]
        for queue in queues:
            self._sender.retire(queue)

    # -- unknown topics ------------------------------------------------------------------------------------------------

    def _look_for(self, topic: str) -> _UnknownTopic:
        search = self._aside.get(topic)
        if search is None:
            search = self._aside[topic] = _UnknownTopic(self._loop.time())
            self.ready.pop(topic, None)
            self._wanted.set()
        return search

    async def _look(self) -> None:
        """Request some of the unknown topics, the longest unasked first, and follow the ones that exist."""
        asked = [topic for topic in self._aside if not self._queues(topic)][:_ASKED_AT_ONCE]
        try:
            async with asyncio.timeout(METADATA_S):
                found = await self._ask(asked) if asked else []
                if found or len(asked) < len(self._aside):
                    self._followed |= {topic: self._followed.get(topic, []) for topic in found}
                    self._client.set_topics(self._followed)
                    await self._client.force_metadata_update()
                    self._deny_partitions()
        except (KafkaError, OSError, KeyError) as error:  # KeyError: aiokafka's, if the connection was closed meanwhile
            log.warning("cannot read the topics from Kafka: %r", error)

    async def _ask(self, topics: list[str]) -> list[str]:
        """Request topics; return the ones that exist, and note the error of the others."""
        request = MetadataRequest(topics, allow_auto_topic_creation=False)
        answer: Any = await self._client.send(self._client.get_random_node(), request)
        found: list[str] = []
        for code, topic, *_ in answer.topics:
            search = self._aside.get(topic)
            if code == 0:
                found.append(topic)
            elif search is not None:
                search.denied = for_code(code)(topic) if code in _DENIED else None
                self._aside[topic] = self._aside.pop(topic)
        return found

    def _deny_partitions(self) -> None:
        """Note that an existing topic has had the time to show its partitions."""
        for topic, search in self._aside.items():
            if self._queues(topic):
                search.denied = UnknownTopicOrPartitionError(topic)

    def _settle(self) -> None:
        """Send waiting records whose partition is known now; fail records that waited long enough."""
        now = self._loop.time()
        patience = METADATA_S if len(self._aside) <= MANY else _IMPATIENT_S
        for topic, search in list(self._aside.items()):
            queues = self._queues(topic)
            self._send(search, queues)
            overdue = now - search.since > patience or isinstance(search.denied, TopicAuthorizationFailedError)
            if not search.records and (overdue or queues):
                self._end(topic, None)
            elif overdue and search.denied:
                self._note_missing(topic, now, search.denied)
                self._end(topic, search.denied)
            else:
                self._expire(topic, search, now)
        self._records = sum(len(search.records) for search in self._aside.values())

    def _send(self, search: _UnknownTopic, queues: list[PartitionQueue]) -> None:
        if not queues:
            return
        waiting: deque[tuple[PendingRecord, int | None]] = deque()
        for record, partition in search.records:
            if record.on_ack is None:
                continue
            if partition is None or partition < len(queues):
                self._sender.add(choose_queue(queues, record.key, partition), record)
            else:
                waiting.append((record, partition))
        search.records = waiting

    def _expire(self, topic: str, search: _UnknownTopic, now: float) -> None:
        while search.records and search.records[0][0].deadline <= now:
            record, _ = search.records.popleft()
            self._sender.settle(record, KafkaTimeoutError(f"cannot read the location of topic {topic} from Kafka"))

    def _end(self, topic: str, error: KafkaError | None) -> None:
        search = self._aside.pop(topic)
        search.settled.set()
        for record, _ in search.records:
            self._sender.settle(record, error or UnknownTopicOrPartitionError(topic))
        if queues := self._queues(topic):
            self.ready[topic] = queues

    def _note_missing(self, topic: str, now: float, why: KafkaError) -> None:
        if self._queues(topic):  # only a partition is missing
            return
        self._missing = {name: (until, said) for name, (until, said) in self._missing.items() if until > now}
        self._missing[topic] = now + MISSING_FOR_S, why
