"""Consumer that delivers records at least once and lets them be finished in any order.

    poll() -> in flight -> done(record) in any order -> watermark per partition -> committed in the background

Rules.
* The watermark passes records that are not delivered: transaction markers, records of aborted transactions, damage.
* Only the watermark is committed. After a crash, a record is delivered again if it was not done, or if its offset was
  not committed: at least once.
* While `max_in_flight` records are in flight, or there is no room for their bytes (`RecordMemory`), no more are taken
  until a quarter is done. Records fetched meanwhile are limited, too (`broker.fetch`).
* Partitions come from `assign`: the caller decides (workers), and offsets are committed without the group's protocol;
  or from `subscribe`: the members of the group share them (selectors), see `membership`.
* A partition that is taken away is drained for a moment, committed and forgotten; `done` of its records is then a
  no-op. All other partitions are read meanwhile.
* A partition that was lost, since a lease or membership expired, is forgotten at once and never committed: another
  reader owns it.
* No transient error ends `poll`: reading backs off and continues.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from broker.delivery.committer import Committer, SharedCommitters
from broker.delivery.group import Group
from broker.delivery.in_flight import InFlightTracker, RecordMemory
from broker.delivery.membership import Membership, Partitions, TopicCounts, UnreadWatch
from broker.fetch.read_connection import ReadConnection
from broker.kafka.clocks import BrokerClocks, RecordTimes
from broker.kafka.cluster import broker_features
from broker.kafka.offsets import START
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import partitions_of
from broker.kafka.types import Record
from schemas.errors import OperatorError

if TYPE_CHECKING:
    from broker.fetch.fetch_buffer import FetchBuffer

__all__ = ["Consumer", "Record"]

log = logging.getLogger(__name__)

DRAIN_S: Final = 2.0
LAST_COMMIT_S: Final = 3.0
_BACKOFF_S: Final = 0.5


class Consumer:
    """Consumer of topics that delivers each record at least once; an async context manager.

    One task calls `poll`; `done` may be called from anywhere in the event loop.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        client_id: str,
        *,
        group: str,
        instance_id: str | None = None,
        max_in_flight: int = 1000,
        memory: RecordMemory | None = None,
        committers: SharedCommitters | None = None,
        over: ReadConnection | None = None,
        clocks: BrokerClocks | None = None,
    ) -> None:
        """Make a consumer that is not connected; it updates `clocks` and takes the times of records from them.

        `memory` may be shared with other consumers, as may `committers`, if partitions are assigned; None: it commits
        alone. `over` is an open connection shared with other readers; None: the consumer's own.
        """
        self.on_release: Callable[[Collection[TopicPartition]], None] = lambda _: None
        """Called with partitions that are given up, to give back their records that are only held."""
        self.max_in_flight: Final = max_in_flight
        self._settings = settings
        self._client_id = client_id
        self._group = group
        self._instance_id = instance_id
        self._committers = committers
        self._over = over
        self._connection: ReadConnection
        self._times = RecordTimes(clocks or BrokerClocks())
        self._member: Group
        self._committer: Committer
        self._buffer: FetchBuffer
        self._membership: Membership | None = None
        self._watch = UnreadWatch(group, self._unread)
        self.passing_topics: frozenset[str] = frozenset()
        """Subscribed topics that may be deleted: they need no reader."""
        self._tracker = InFlightTracker(max_in_flight, memory or RecordMemory(settings.max_in_flight_bytes))
        self._move_lock = asyncio.Lock()
        self._tasks = asyncio.TaskGroup()
        self._background: list[asyncio.Task[None]] = []
        self._unplaced: set[TopicPartition] = set()
        """Partitions to be read from the group's committed offset."""
        self._starting: dict[TopicPartition, asyncio.Future[None]] = {}
        """Future of each partition to be read; done once its position is known."""
        self._starts = asyncio.Event()
        self._topic = ""
        self._assigned: Partitions = frozenset()
        self._topics: frozenset[str] = frozenset()

    @property
    def in_flight(self) -> int:
        """Number of records that were handed out and are not done."""
        return self._tracker.in_flight

    @property
    def problem(self) -> str:
        """Reason why partitions of the subscribed topics have no reader, as known here; empty if all have one.

        A partition that is assigned to another member counts as read: a dead member is noticed after the session
        timeout.
        """
        return self._watch.problem

    @property
    def reading(self) -> Partitions:
        """Partitions that are read now, without those being drained."""
        return self._buffer.partitions

    async def __aenter__(self) -> Self:
        self._connection = self._over or await ReadConnection(self._settings, self._client_id).__aenter__()
        session_ms = self._settings.session_timeout_ms
        self._member = Group(
            self._connection.client, self._group, self._instance_id, session_ms, max(session_ms, int(DRAIN_S * 2000))
        )
        self._buffer = self._connection.fetcher.open_buffer()
        await self._tasks.__aenter__()
        self._start(self._start_reading(), "start reading")
        if self._committers is not None:
            self._committer = self._committers.of(self._group)
        else:
            self._committer = Committer(self._member, self._client_id, self._settings.request_timeout_ms / 1000)
            self._start(self._committer.run(), "commit")
            self._start(self._committer.heal_in_background(lambda: self._membership is None), "heal")
        self._committer.attach(self._tracker)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Commit finished records and leave the group; records in flight are delivered again to the next owner."""
        try:
            await self._committer.commit(LAST_COMMIT_S)
        finally:
            self._committer.detach(self._tracker)
            for task in self._background:
                task.cancel()
            await self._tasks.__aexit__(None, None, None)
            try:
                if self._membership is not None:
                    await self._membership.leave()
            finally:
                self._tracker.close()
                self._connection.fetcher.close_buffer(self._buffer)
                if self._over is None:
                    await self._connection.__aexit__(None, None, None)

    # -- which partitions ----------------------------------------------------------------------------------------------

    async def subscribe(self, topics: Collection[str]) -> None:
        """Share the partitions of `topics` with the group's other members; may be called again with other topics.

        With an instance id the member is static: if it is killed and started again, it gets its partitions back within
        a second, and the others read on. A member that does not return is replaced after the session timeout (6 s), one
        that leaves is replaced at once. A change stops only the partitions that move. If another process subscribes
        under the same instance id, `poll` raises an OperatorError.

        The embedded broker has no groups: there, the consumer takes all partitions, so there may be only one member.
        """
        wanted = frozenset(topics)
        if wanted == self._topics:
            return
        if self._membership is None and not (await broker_features(self._settings)).groups:
            await self._move_to(await partitions_of(self._settings, wanted), DRAIN_S)
        else:
            if self._membership is None:
                self._membership = self._new_membership()
                self._start(self._membership.run(), "membership")
                self._watch.problem = f"it is not a member of group {self._group}"
                self._start(self._watch.run(), "watch")
            self._membership.subscribe(wanted)
        self._topics = wanted

    async def refresh_partitions(self) -> None:
        """Update the metadata now, not within minutes, so that new partitions of subscribed topics are shared."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await self._connection.client.force_metadata_update()
        except TimeoutError:
            log.warning("group %s: cannot read the partitions from Kafka", self._group)

    async def assign(self, topic: str, partitions: Collection[int], *, drain_s: float = DRAIN_S) -> None:
        """Read exactly `partitions` of `topic`, each from its committed offset, or else from the earliest one.

        May be called again: partitions that stay continue without loss or repetition. Partitions that are no longer
        named stop at once. This waits up to `drain_s` seconds until their records in flight are done, then commits and
        forgets them.
        """
        self._topic = topic
        await self._move_to(frozenset(TopicPartition(topic, partition) for partition in partitions), drain_s)

    def lose(self, partitions: Collection[int]) -> None:
        """Stop reading these partitions of the assigned topic, without a commit: another reader owns them."""
        lost = frozenset(TopicPartition(self._topic, partition) for partition in partitions)
        self._assigned -= lost
        self._forget(lost)

    # -- records -------------------------------------------------------------------------------------------------------

    async def poll(self, max_records: int = 500) -> list[Record]:
        """Wait for the next records, and for room for more in flight; return at least one record.

        Raises:
            OperatorError: Kafka refuses this client; waiting will not help.
        """
        taken: list[Record] = []
        while not taken:
            if not self._tracker.room:
                self._buffer.pause()
            room, most_bytes = await self._tracker.wait_for_room()
            try:
                found = await self._buffer.poll(min(max_records, room), most_bytes)
            except KafkaError as error:
                raise OperatorError(f"Kafka refuses group {self._group}: {error}") from error
            for partition, (records, sizes) in found.items():
                if records:
                    self._tracker.hand_out(partition, sizes)
                    leader = self._connection.client.cluster.leader_for_partition(partition)
                    self._times.on_record(records[-1], leader)
                    taken += records
                self._tracker.pass_to(partition, self._buffer.taken(partition))
        return taken

    def offset_ms(self, record: Record) -> float:
        """Return the offset of the clock of the broker that a record came from, in milliseconds."""
        return self._times.offset_ms(record)

    def done(self, *records: Record) -> None:
        """Mark records as finished, so that their offsets may be committed. No-op if they were, or are not ours."""
        self._tracker.done(*records)

    def hold(self, record: Record, size: int) -> None:
        """Note that a record in flight and its result hold `size` bytes together, which count as in flight."""
        self._tracker.hold(record, size)

    def give_back(self, record: Record) -> None:
        """Leave a record to the partition's next owner: do not wait for it, and commit nothing from its offset on."""
        self._tracker.give_back(record)

    def leave_out(self, topics: Collection[str | tuple[str, int]]) -> None:
        """Make `poll` skip these topics or partitions, until called again without them."""
        self._buffer.leave_out(topics)

    def pause(self) -> None:
        """Keep readers of the same connection from waiting for the next `poll` of this one, which may come late."""
        self._buffer.pause()

    def rest(self, seconds: float) -> None:
        """Fetch nothing over this connection for `seconds`, so that the next `poll` returns more records."""
        self._connection.fetcher.rest(seconds)

    async def drained(self) -> None:
        """Wait until every record handed out is done."""
        await self._tracker.drained()

    def position(self, partition: int) -> int | None:
        """Return the next offset of the assigned topic's partition to be handed out; None if it is not known yet."""
        return self._tracker.position(TopicPartition(self._topic, partition))

    def end(self, partition: int) -> int | None:
        """Return the end offset of the assigned topic's partition, as last fetched; None if it is not known yet."""
        wanted = TopicPartition(self._topic, partition)
        if wanted not in self._assigned:
            return None
        seen, position = self._buffer.end(wanted), self._tracker.position(wanted)
        return position if seen is None else max(seen, position or 0)

    async def commit(self) -> bool:
        """Commit the watermarks now. An error of Kafka is logged, and the commit is tried again later.

        Returns:
            True if all watermarks are committed.
        """
        return await self._committer.commit()

    # -- moving --------------------------------------------------------------------------------------------------------

    async def _move_to(self, wanted: Partitions, drain_s: float) -> None:
        async with self._move_lock:
            gone, new = self._assigned - wanted, wanted - self._assigned
            self._assigned = wanted
            self._read(new)
            await self._release(gone, drain_s)
            if starting := [self._starting[partition] for partition in new if partition in self._starting]:
                await asyncio.wait(starting, timeout=self._settings.request_timeout_ms / 1000)

    async def _release(self, partitions: Partitions, drain_s: float | None = None) -> None:
        """Stop reading partitions, drain them for a while, commit and forget them."""
        if not partitions:
            return
        self._stop(partitions)
        try:
            async with asyncio.timeout(DRAIN_S if drain_s is None else drain_s):
                await self._tracker.drained(partitions)
        except TimeoutError:
            log.info("group %s: stopped waiting for records in flight of %d partitions", self._group, len(partitions))
        await self.commit()
        self._drop(partitions)

    def _forget(self, partitions: Partitions) -> None:
        self._stop(partitions)
        self._drop(partitions)

    def _stop(self, partitions: Partitions) -> None:
        """Stop reading partitions, and have their records that are only held given back."""
        self._buffer.stop(partitions)
        self._unplaced -= partitions
        self.on_release(partitions)

    def _drop(self, partitions: Partitions) -> None:
        for partition in partitions:
            self._tracker.forget(partition)
            self._times.forget(partition)
            self._on_started(partition)

    def _read(self, partitions: Partitions) -> None:
        for partition in partitions:
            self._starting[partition] = asyncio.get_running_loop().create_future()
        self._unplaced |= partitions
        self._starts.set()

    async def _start_reading(self) -> None:
        """Find the start positions of new partitions, and begin to read them."""
        while True:
            await self._starts.wait()
            self._starts.clear()
            wanted = {partition: self._starting[partition] for partition in self._unplaced}
            if not wanted:
                continue
            try:
                async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                    committed = await self._committer.coordinator.fetch(wanted.keys())
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("group %s: positions not known yet: %r", self._group, error)
                if isinstance(error, GroupAuthorizationFailedError):
                    self._buffer.refuse(error)
                await asyncio.sleep(_BACKOFF_S)
                self._starts.set()
                continue
            for partition, started in wanted.items():
                if partition not in self._unplaced:
                    continue
                if self._starting.get(partition) is not started:  # lost and assigned again: its offset may differ
                    self._starts.set()
                    continue
                self._unplaced.discard(partition)
                start = self._buffer.begin(partition, committed.get(partition, START))
                start.add_done_callback(partial(self._on_position, partition, started))

    def _on_position(
        self, partition: TopicPartition, started: asyncio.Future[None], start: asyncio.Future[int]
    ) -> None:
        if start.cancelled() or self._starting.get(partition) is not started:
            return
        if not self._tracker.is_tracked(partition):
            self._tracker.track(partition, start.result())
        self._on_started(partition)

    def _on_started(self, partition: TopicPartition) -> None:
        started = self._starting.pop(partition, None)
        if started is not None and not started.done():
            started.set_result(None)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _unread(self) -> int | None:
        membership = self._membership
        if membership is None or (known := membership.unread) is None:
            return None
        return known + len(self._starting) + len(membership.missing - self.passing_topics)

    def _new_membership(self) -> Membership:
        return Membership(
            self._member,
            TopicCounts(self._connection.client),
            session_s=self._settings.session_timeout_ms / 1000,
            on_dealt=self._read,
            give_up=self._release,
            on_lost=self._forget,
            on_refused=self._buffer.refuse,
        )

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        self._background.append(self._tasks.create_task(work, name=f"{name} {self._group}"))
