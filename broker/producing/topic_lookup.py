"""Knows topics and their partitions; records for what is not known yet wait aside, for a bounded time.

    known: the topic's queues, at once
    else:  aside -> asked for -> found: into its queue, in order
                              -> we may not use it: fails at once
                              -> the broker says for METADATA_S that there is none: fails, and is remembered a moment
                              -> the broker says nothing: fails at its own deadline, as a record that may be sent again

Rules.
* Names that clients made up are asked for apart, a few at a time, so that they cost nobody else anything and no broker
  makes a topic of them. Only what exists is followed in the client's own metadata.
* Where many wait, each waits less: what follows from them holds its place in a consumer.
* A name that no topic can have is never asked for: one too long would end the client's metadata for good.
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
"""Seconds that a record waits for a topic, or a partition, of which the broker says that there is none."""
MISSING_FOR_S: Final = 2.0
"""Seconds for which a topic that was not there is refused at once."""
MANY: Final = 20
"""Unknown topics at once from which on each is waited for only `_IMPATIENT_S`."""
_IMPATIENT_S: Final = 0.2
_LOOK_INTERVAL_S: Final = 0.05
_ASKED_AT_ONCE: Final = 200
_DENIED: Final = (TopicAuthorizationFailedError.errno, UnknownTopicOrPartitionError.errno)


class _UnknownTopic:
    """A topic that is looked for, and the records that wait for it."""

    __slots__ = ("denied", "records", "settled", "since")

    def __init__(self, now: float) -> None:
        self.records: deque[tuple[PendingRecord, int | None]] = deque()
        """With the partition each is for."""
        self.since = now
        self.denied: KafkaError | None = None
        """What the broker said if there is no such topic or partition, or none for us."""
        self.settled = asyncio.Event()


class TopicLookup:
    """Directory of the topics that one producer writes to, within one event loop."""

    def __init__(self, client: AIOKafkaClient, sender: BatchSender, max_records: int) -> None:
        """Make a directory that lets `max_records` wait aside at most."""
        self.ready: dict[str, list[PartitionQueue]] = {}
        """Queues by topic, of those known for which nothing waits aside."""
        self._client = client
        self._sender = sender
        self._followed: dict[str, list[PartitionQueue]] = {}
        """Queues of all topics that exist or did lately."""
        self._aside: dict[str, _UnknownTopic] = {}
        self._missing: dict[str, tuple[float, KafkaError]] = {}
        """By topic until when it is refused, and why."""
        self._max_records = max_records
        self._records = 0
        """Number of records aside, counted anew at each look."""
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        client.cluster.add_listener(self._on_metadata)

    def refusal(self, topic: str) -> KafkaError | None:
        """Why a record for a topic that is not ready must not wait for it; None: it may."""
        until, why = self._missing.get(topic, (0.0, None))
        if until > self._loop.time():
            return why
        if not is_topic(topic):
            return UnknownTopicOrPartitionError(f"no topic can be called {topic[:100]!r}")
        if self._records >= self._max_records:
            return KafkaError(f"{self._records} records wait for topics that are not known: {topic} has to come later")
        return None

    def put_aside(self, topic: str, record: PendingRecord, partition: int | None) -> None:
        """Let a record wait until its topic, or its partition, is known."""
        self._look_for(topic).records.append((record, partition))
        self._records += 1

    async def prefetch(self, topics: Iterable[str]) -> None:
        """Look for topics that are not known; those that do not exist are skipped."""
        unknown = [topic for topic in topics if topic not in self.ready]
        searched = [self._look_for(topic) for topic in unknown if is_topic(topic)]
        try:
            async with asyncio.timeout(2 * METADATA_S):
                for search in searched:
                    await search.settled.wait()
        except TimeoutError:
            log.warning("Kafka does not say which topics there are")

    async def refresh(self) -> None:
        """Ask again for the partitions of all that is known."""
        async with asyncio.timeout(METADATA_S):
            await self._client.force_metadata_update()

    async def run(self) -> None:
        """Look for what waits, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._aside:
                await self._look()
                self._settle()
                await asyncio.sleep(_LOOK_INTERVAL_S)

    def close(self, error: KafkaError) -> None:
        """Fail all that waits aside."""
        for topic in list(self._aside):
            self._end(topic, error)

    # -- what is known -------------------------------------------------------------------------------------------------

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
        """Queues of a topic that exists as far as is known; else none."""
        there = self._client.cluster.partitions_for_topic(topic) is not None
        return self._followed.get(topic, []) if there else []

    def _vanished(self, topic: str, queues: list[PartitionQueue]) -> None:
        """Take a topic that is gone out of what is ready, and forget it once nothing waits for its partitions."""
        self.ready.pop(topic, None)
        for queue in queues:
            queue.leader = -1
        if topic in self._aside or any(queue.busy for queue in queues):
            return
        del self._followed[topic]
        for queue in queues:
            self._sender.retire(queue)

    # -- what is not ---------------------------------------------------------------------------------------------------

    def _look_for(self, topic: str) -> _UnknownTopic:
        search = self._aside.get(topic)
        if search is None:
            search = self._aside[topic] = _UnknownTopic(self._loop.time())
            self.ready.pop(topic, None)
            self._wanted.set()
        return search

    async def _look(self) -> None:
        """Ask for some of what is wanted, the longest unasked first, and follow what there is."""
        asked = [topic for topic in self._aside if not self._queues(topic)][:_ASKED_AT_ONCE]
        try:
            async with asyncio.timeout(METADATA_S):
                found = await self._ask(asked) if asked else []
                if found or len(asked) < len(self._aside):
                    self._followed |= {topic: self._followed.get(topic, []) for topic in found}
                    self._client.set_topics(self._followed)
                    await self._client.force_metadata_update()
                    self._deny_partitions()
        except (KafkaError, OSError, KeyError) as error:  # KeyError: aiokafka met a connection closed meanwhile
            log.warning("Kafka does not say which topics there are: %r", error)

    async def _ask(self, topics: list[str]) -> list[str]:
        """Ask whether topics exist; returns those that do, and notes the others."""
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
        """Note that topics which do exist have had their chance to show a partition, too."""
        for topic, search in self._aside.items():
            if self._queues(topic):
                search.denied = UnknownTopicOrPartitionError(topic)

    def _settle(self) -> None:
        """Send what waited for what is here now; fail what waited long enough."""
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
            self._sender.settle(record, KafkaTimeoutError(f"Kafka did not say where {topic} is"))

    def _end(self, topic: str, error: KafkaError | None) -> None:
        search = self._aside.pop(topic)
        search.settled.set()
        for record, _ in search.records:
            self._sender.settle(record, error or UnknownTopicOrPartitionError(topic))
        if queues := self._queues(topic):
            self.ready[topic] = queues

    def _note_missing(self, topic: str, now: float, why: KafkaError) -> None:
        if self._queues(topic):  # a partition is missing, the others are there
            return
        self._missing = {name: (until, said) for name, (until, said) in self._missing.items() if until > now}
        self._missing[topic] = now + MISSING_FOR_S, why
