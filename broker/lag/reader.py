"""Consumer lag: how many records and seconds groups are behind the ends of their partitions.

A reading sends two or three requests to each broker, however many partitions and groups there are: for the ends of the
partitions, for the committed offsets of the groups and, where a group is behind, for the starts of the partitions.
Arrays hold the answers. The lag in seconds is the age of the oldest uncommitted record. It is computed from the ends in
earlier readings; only a record that is older than the first reading is looked up in the log.

Unknown is not zero: if an unanswered request counted as an empty queue, the autoscaler would remove all capacity. A
group that never committed is behind from the earliest record on. Records that were deleted before they were committed
are lost; they are counted separately, since they are neither done nor waiting.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import msgspec
import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.protocol.metadata import MetadataRequest
from numpy.typing import NDArray

from broker.kafka.client import new_client, start_client
from broker.kafka.clocks import BrokerClock
from broker.kafka.offsets import END, START, UNKNOWN, ListOffsets, read_offsets
from broker.kafka.settings import KafkaSettings
from broker.lag.committed import CommittedOffsets, Groups
from broker.lag.timestamps import UNSEEN, OffsetHistory, TimestampLookup

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient

log = logging.getLogger(__name__)

READ_S: Final = 10.0
METADATA_S: Final = 30.0
"""Seconds for which known partitions and leaders are valid; after errors and `expire_metadata` they are read at
once."""
_AGAIN_S: Final = 0.1
_CLIENT_METADATA_MS: Final = 24 * 3_600_000
"""Almost never: the client would refresh all topics of the cluster. This module updates the client's brokers itself."""


class GroupPartition(NamedTuple):
    """Partition as seen by one group."""

    group: str
    topic: str
    partition: int


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """Lag of one group on one partition."""

    group: str
    topic: str
    partition: int
    end: int | None
    """Offset of the next record to be written."""
    committed: int | None
    """Offset that the group has committed; None: never, or unknown, in which case `lag` is None, too."""
    lag: int | None
    """Number of uncommitted records; None: unknown."""
    lag_s: float | None
    """Age of the oldest uncommitted record in seconds; 0 if there is none, None: unknown."""
    lost: int = 0
    """Number of uncommitted records that were deleted."""


class LagObservation(msgspec.Struct, frozen=True):
    """Lag of all group partitions at one time, in arrays in the order of `group_partitions`."""

    at_s: float
    """Time at which the ends were read, in seconds since the epoch by the broker's clock."""
    group_partitions: tuple[GroupPartition, ...]
    """Order of the arrays; the same object in each reading, as long as no partition is added or removed."""
    end: NDArray[np.int64]
    """Offset of the next record to be written; -1: unknown."""
    committed: NDArray[np.int64]
    """Offset that the group has committed; -1: never, -2: unknown."""
    lag: NDArray[np.int64]
    """Number of uncommitted records that still exist; -1: unknown."""
    since_s: NDArray[np.float64]
    """Time at which the oldest uncommitted record was written, in seconds since the epoch; nan: none, or unknown."""
    lost: NDArray[np.int64]
    """Number of uncommitted records that were deleted; 0 if the group never committed."""

    @property
    def lag_s(self) -> NDArray[np.float64]:
        """Age of the oldest uncommitted record in seconds; nan: unknown."""
        return np.where(self.lag == 0, 0.0, np.maximum(self.at_s - self.since_s, 0.0))

    def partition_lags(self) -> list[PartitionLag]:
        """Return the lag of each partition as an object, for small numbers of partitions or for human readers."""
        columns = [column.tolist() for column in (self.end, self.committed, self.lag, self.lag_s, self.lost)]
        return [
            PartitionLag(
                group=group_partition.group,
                topic=group_partition.topic,
                partition=group_partition.partition,
                end=None if end < 0 else end,
                committed=None if committed < 0 else committed,
                lag=None if lag < 0 else lag,
                lag_s=None if lag < 0 or lag_s != lag_s else lag_s,
                lost=lost,
            )
            for group_partition, end, committed, lag, lag_s, lost in zip(self.group_partitions, *columns, strict=True)
        ]


class _Layout:
    """Plan of the requests to each broker; it is kept while neither the wanted topics nor the cluster change.

    A column is a partition of a topic; a row is a column as seen by one group.
    """

    def __init__(self, wanted: Mapping[str, Collection[str]], leaders: Mapping[str, Sequence[int]]) -> None:
        topics = [topic for topic in dict.fromkeys(t for found in wanted.values() for t in found) if topic in leaders]
        self.first: dict[str, int] = {}
        self.partitions: list[TopicPartition] = []
        for topic in topics:
            self.first[topic] = len(self.partitions)
            self.partitions += [TopicPartition(topic, number) for number in range(len(leaders[topic]))]
        self.leader = np.array([leaders[p.topic][p.partition] for p in self.partitions], np.int64)
        known = {group: [topic for topic in found if topic in leaders] for group, found in wanted.items()}
        self.groups: Groups = {
            group: {topic: range(len(leaders[topic])) for topic in found} for group, found in known.items() if found
        }
        self.first_row: dict[tuple[str, str], int] = {}
        group_partitions: list[GroupPartition] = []
        for group, found in self.groups.items():
            for topic, numbers in found.items():
                self.first_row[group, topic] = len(group_partitions)
                group_partitions += [GroupPartition(group, topic, number) for number in numbers]
        self.group_partitions = tuple(group_partitions)
        self.column = np.array(
            [self.first[group_partition.topic] + group_partition.partition for group_partition in group_partitions],
            np.intp,
        )
        self.ends = {node: ListOffsets.of(found, END) for node, found in self.by_leader(range(len(self.leader)))}

    def by_leader(self, columns: Iterable[int]) -> Iterable[tuple[int, dict[str, list[int]]]]:
        """Group columns by leader, as partition numbers by topic; partitions without a leader are left out."""
        found: dict[int, dict[str, list[int]]] = {}
        for column in columns:
            topic, number = self.partitions[column]
            found.setdefault(int(self.leader[column]), {}).setdefault(topic, []).append(number)
        found.pop(-1, None)
        return found.items()

    def remapped(self, history: OffsetHistory, before: "_Layout") -> OffsetHistory:
        """Copy the history of the previous layout for the partitions that both layouts have."""
        old = {partition: column for column, partition in enumerate(before.partitions)}
        pairs = [(new, old[p]) for new, p in enumerate(self.partitions) if p in old]
        new, same = (np.array(columns, np.intp) for columns in (zip(*pairs, strict=True) if pairs else ((), ())))
        return history.remapped(len(self.partitions), new, same)


class LagReader:
    """Reader of consumer lag; an async context manager, whose `read` only one task at a time may call."""

    def __init__(
        self, settings: KafkaSettings, client_id: str = "infaas-lag", clock: BrokerClock | None = None
    ) -> None:
        self.clock: Final = clock or BrokerClock()
        """Estimate of the broker's clock, which stamps the records in the log."""
        self._settings = settings
        self._client_id = client_id
        self._client: AIOKafkaClient
        self._timestamps = TimestampLookup(settings, client_id)
        self._open = AsyncExitStack()
        self._committed_offsets: CommittedOffsets
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._layout = _Layout({}, {})
        self._history = OffsetHistory(0)
        self._looked_up_s = -METADATA_S

    async def __aenter__(self) -> Self:
        self._client = new_client(self._settings, self._client_id, metadata_max_age_ms=_CLIENT_METADATA_MS)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._client.close)
            stack.push_async_callback(self._timestamps.aclose)
            await start_client(self._settings, self._client.bootstrap())
            self._committed_offsets = CommittedOffsets(self._client)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()

    def expire_metadata(self) -> None:
        """Make the next reading ask for the partitions of topics again, since some were added."""
        self._looked_up_s = -METADATA_S

    async def read(self, wanted: Mapping[str, Collection[str]]) -> LagObservation:
        """Return the lag of each group on each partition of its topics; a topic that does not exist has no rows.

        Raises:
            KafkaError: Kafka did not answer within 10 s; nothing is known.
        """
        try:
            async with asyncio.timeout(READ_S):
                return await self._read(wanted)
        except TimeoutError as error:
            self.expire_metadata()
            raise KafkaTimeoutError(f"the lag could not be read within {READ_S:g} s") from error
        except (KafkaError, OSError):
            self.expire_metadata()
            raise

    async def read_until_known(self, wanted: Mapping[str, Collection[str]]) -> LagObservation:
        """Read until nothing is unknown: a new partition has no leader for a moment.

        Raises:
            KafkaError: something is still unknown after 20 s.
        """
        try:
            async with asyncio.timeout(2 * READ_S):
                while True:
                    reading = await self.read(wanted)
                    if (reading.lag >= 0).all():
                        return reading
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError as error:
            raise KafkaTimeoutError("cannot read committed offsets from Kafka") from error

    async def _read(self, wanted: Mapping[str, Collection[str]]) -> LagObservation:
        layout = await self._lay_out(wanted)
        # The ends come first: in the other order, records written and committed in between would count as lag.
        ends, at_s = await self._offsets(layout, layout.ends), self.clock.now_ms() / 1e3
        self._history.add(at_s, np.where(ends < 0, UNSEEN, ends))
        committed = await self._committed(layout)
        end, known = ends[layout.column], committed != UNKNOWN
        behind = np.flatnonzero(known & (end > np.maximum(committed, 0)))
        starts = (await self._offsets(layout, self._starts(layout, behind)))[layout.column]
        known &= end >= 0
        known[behind] &= starts[behind] >= 0
        oldest = np.maximum(np.maximum(committed, starts), 0)
        lag = np.where(known, np.maximum(end - oldest, 0), -1)
        lost = np.where(known & (committed >= 0), np.maximum(starts - committed, 0), 0)
        since_s = await self._since_s(layout, np.flatnonzero(lag > 0), oldest)
        return LagObservation(at_s, layout.group_partitions, np.maximum(end, -1), committed, lag, since_s, lost)

    # -- partitions and their leaders ----------------------------------------------------------------------------------

    async def _lay_out(self, wanted: Mapping[str, Collection[str]]) -> _Layout:
        asked = {group: tuple(topics) for group, topics in wanted.items() if topics}
        now_s = time.monotonic()
        if asked == self._wanted and now_s - self._looked_up_s < METADATA_S:
            return self._layout
        leaders = await self._leaders({topic for topics in asked.values() for topic in topics})
        layout = _Layout(asked, leaders)
        if layout.group_partitions != self._layout.group_partitions or not np.array_equal(
            layout.leader, self._layout.leader
        ):
            self._history = layout.remapped(self._history, self._layout)
            self._layout = layout
        self._wanted, self._looked_up_s = asked, now_s
        return self._layout

    async def _leaders(self, topics: Collection[str]) -> dict[str, list[int]]:
        if not topics:
            return {}
        # Not by the client's own metadata: the client would refresh these topics from then on.
        request = MetadataRequest(sorted(topics), allow_auto_topic_creation=False)
        answer: Any = await self._client.send(self._client.get_random_node(), request)
        self._client.cluster.update_metadata(answer)
        return {
            name: [leader for _, leader in sorted((part[1], part[2]) for part in partitions)]
            for error, name, _internal, partitions in answer.topics
            if not error and partitions
        }

    # -- offsets and times ---------------------------------------------------------------------------------------------

    async def _offsets(self, layout: _Layout, requests: Mapping[int, ListOffsets]) -> NDArray[np.int64]:
        """Return offsets by column; UNKNOWN where no broker answered."""
        found = np.full(len(layout.partitions), UNKNOWN, np.int64).tolist()
        for answer in await self._ask(requests):
            for topic, offsets in read_offsets(answer):
                first = layout.first[topic]
                for number, offset in offsets:
                    found[first + number] = offset
                    if offset == UNKNOWN:
                        self.expire_metadata()
        return np.array(found, np.int64)

    def _starts(self, layout: _Layout, rows: NDArray[np.intp]) -> dict[int, ListOffsets]:
        columns = np.unique(layout.column[rows]).tolist()
        return {node: ListOffsets.of(partitions, START) for node, partitions in layout.by_leader(columns)}

    async def _committed(self, layout: _Layout) -> NDArray[np.int64]:
        """Return committed offsets by row: -1 for none, UNKNOWN if the group could not be asked."""
        found = [UNKNOWN] * len(layout.group_partitions)
        for group, topic, offsets in await self._committed_offsets.read(layout.groups):
            first = layout.first_row[group, topic]
            for number, offset in offsets:
                found[first + number] = offset
        return np.array(found, np.int64)

    async def _ask(self, requests: Mapping[int, ListOffsets]) -> list[Any]:
        """Send the requests; return the answers of the brokers that answer.

        Raises:
            KafkaError: no broker answers.
        """

        async def ask(node: int, request: ListOffsets) -> Any:
            try:
                return await self._client.send(node, request)
            except (KafkaError, OSError) as error:
                log.warning("cannot read offsets from broker %d: %r", node, error)
                self.expire_metadata()
                return error

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(ask(node, request)) for node, request in requests.items()]
        answers = [task.result() for task in asked]
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        if failed and len(failed) == len(answers):
            raise failed[0]
        return [answer for answer in answers if not isinstance(answer, Exception)]

    async def _since_s(
        self, layout: _Layout, behind: NDArray[np.intp], oldest: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        found = np.full(len(layout.group_partitions), np.nan)
        columns, offsets = layout.column[behind], oldest[behind]
        found[behind] = self._history.written_s(columns, offsets)
        missing = behind[np.isnan(found[behind])]
        group_partitions = [(layout.partitions[layout.column[row]], int(oldest[row])) for row in missing]
        read = await self._timestamps.written_s(group_partitions)
        found[missing] = [read.get(group_partition, np.nan) for group_partition in group_partitions]
        return found
