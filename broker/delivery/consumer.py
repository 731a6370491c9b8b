"""Reads topics at least once, with records finished in any order.

    poll() -> in flight -> done(record) in any order -> watermark per partition -> committed in the background

Rules.
* Only the watermark is committed, so after any crash every record not done is delivered again. A record done whose
  offset was not yet committed is delivered again too: at least once.
* While `max_in_flight` records are in flight nothing more is taken, until a quarter of them is done; what is fetched
  meanwhile is bounded by one fetch per partition.
* Two ways to get partitions. `assign`: the caller decides (workers: placement and leases); commits go to the group all
  the same, without its protocol. `subscribe`: the members of the group share (selectors).
* A partition taken away is drained for a moment, committed and forgotten; `done` of its records is then a no-op.
* No transient error ends `poll`: it backs off and goes on. A failed commit is tried again with the next one.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)
from prometheus_client import Counter

from broker.client import new_consumer, open_admin, start_client, stop_consumer
from broker.delivery.in_flight import InFlightTracker
from broker.delivery.rebalance import RebalanceListener
from broker.features import broker_features
from broker.fetch_pace import FetchPace, interrupt
from broker.kafka_types import Record
from broker.settings import KafkaSettings
from schemas.errors import OperatorError

__all__ = ["Consumer", "Record"]

log = logging.getLogger(__name__)

COMMIT_INTERVAL_S: Final = 0.2
DRAIN_S: Final = 2.0
LAST_COMMIT_S: Final = 3.0
_ASSIGNED_FACTOR: Final = 50
"""Of the longer wait over the shorter one: a worker has a consumer for each instance, and few of them are busy."""
_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_REFUSED: Final = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    SaslAuthenticationFailed,
)


FAILED = Counter("infaas_commit_failures_total", "Commits that failed and were tried again", ["consumer_group"])


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
        pace: FetchPace | None = None,
    ) -> None:
        """`pace` is how eagerly it reads what it shares, if not as usual."""
        self.on_release: Callable[[Collection[tuple[str, int]]], None] = lambda _: None
        """Called with partitions that are given up, by topic and number: give back what is only held of them."""
        self._settings = settings
        self._client_id = client_id
        self._group = group
        self._instance_id = instance_id
        self._consumer: AIOKafkaConsumer
        self._tracker = InFlightTracker(max_in_flight)
        self._pace = FetchPace(settings, factor=_ASSIGNED_FACTOR)
        self._shared_pace = pace or FetchPace(settings)
        self._poll_end: asyncio.Timeout | None = None
        self._commit_lock = asyncio.Lock()
        self._move_lock = asyncio.Lock()
        self._failures = 0
        self._tasks = asyncio.TaskGroup()
        self._background: list[asyncio.Task[None]] = []
        self._shares = True
        """Whether what is subscribed to is shared by the group protocol."""
        self._topic, self._topics = "", frozenset[str]()

    @property
    def in_flight(self) -> int:
        """Number of records that were handed out and are not done."""
        return self._tracker.in_flight

    async def __aenter__(self) -> Self:
        self._consumer = self._new_consumer()
        try:
            await start_client(self._settings, self._consumer.start())
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        await self._tasks.__aenter__()
        self._start(self._commit_in_background(), "commit")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what is done and leave the group; what is in flight is delivered again to its next owner."""
        try:
            await self._commit(LAST_COMMIT_S)
        finally:
            for task in self._background:
                task.cancel()
            await self._tasks.__aexit__(None, None, None)
            await self._leave(self._consumer)

    # -- which partitions ----------------------------------------------------------------------------------------------

    async def subscribe(self, topics: Collection[str]) -> None:
        """Share the partitions of `topics` with the group's other members; may be called again with more topics.

        With an instance id the member is static: killed and started again, it gets its partitions back at once and the
        others notice nothing. One that does not come back is replaced after the session timeout (6 s), one that exits
        cleanly at once. A change pauses all members for a moment.

        On a broker that knows no groups, the embedded one, it takes all partitions: there may be one member only.
        """
        wanted = frozenset(topics)
        if wanted == self._topics:
            return
        if not self._topics:
            self._shares = (await broker_features(self._settings)).groups
        if not self._shares:
            await self._move_to(await self._partitions_of(wanted), DRAIN_S)
            self._topics = wanted
            return
        self._topics = wanted
        self._pace = self._shared_pace
        async with self._move_lock:
            # aiokafka drops the old assignment at once: whatever is to be committed of it must be committed before.
            await self._retire(self._consumer.assignment(), DRAIN_S)
            self._consumer.subscribe(sorted(wanted), listener=RebalanceListener(self._give_up, self.end_poll))

    async def refresh_partitions(self) -> None:
        """Learn at once, not within minutes, of new partitions of the topics subscribed to, and share them too."""
        client = self._consumer._client  # pyright: ignore[reportPrivateUsage] - there is no other way
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                interrupt(self._consumer)
                await client.force_metadata_update()
        except TimeoutError:
            log.warning("group %s: Kafka does not say which partitions there are", self._group)

    async def assign(self, topic: str, partitions: Collection[int], *, drain_s: float = DRAIN_S) -> None:
        """Read exactly `partitions` of `topic`, each from its committed offset or else from the earliest.

        May be called again: kept partitions continue without loss or repeat. Those no longer named stop at once; for up
        to `drain_s` this waits until what is in flight of them is done; then they are committed and forgotten.
        """
        self._topic = topic
        await self._move_to({TopicPartition(topic, partition) for partition in partitions}, drain_s)

    # -- records -------------------------------------------------------------------------------------------------------

    async def poll(self, max_records: int = 500) -> list[Record]:
        """Return the next records, at least one; waits for them, and while `max_in_flight` are in flight.

        Raises:
            OperatorError: Kafka refuses this client; waiting will not help.
        """
        while True:
            limit = min(max_records, await self._tracker.wait_for_room())
            try:
                found = await self._pace.poll(self._consumer, limit)
            except _REFUSED as error:
                raise OperatorError(f"Kafka refuses group {self._group}: {error}") from error
            except KafkaError as error:
                await self._back_off(error)
                continue
            self._failures = 0
            if found:
                return self._hand_out(found)

    async def poll_without(self, topics: Collection[str], max_records: int = 500) -> list[Record]:
        """Return the next records of all but these topics, as `poll` does; none after `end_poll`."""
        limit = min(max_records, await self._tracker.wait_for_room())
        wanted = [partition for partition in self._consumer.assignment() if partition.topic not in topics]
        try:
            async with asyncio.timeout(None) as self._poll_end:
                if not wanted:
                    await asyncio.get_running_loop().create_future()
                found = await self._pace.poll(self._consumer, limit, wanted)
        except TimeoutError:
            return []
        except KafkaError as error:
            await self._back_off(error)
            return []
        finally:
            self._poll_end = None
        return self._hand_out(found)

    def end_poll(self) -> None:
        """End a `poll_without` that waits: other topics are to be left out."""
        if self._poll_end is not None:
            self._poll_end.reschedule(0.0)
            self._poll_end = None

    def done(self, record: Record) -> None:
        """Mark a record as finished: its offset may be committed. No-op if it was, or is no longer ours."""
        self._tracker.done(record)

    def give_back(self, record: Record) -> None:
        """Mark a record as one that will not be finished here: it is delivered again to its partition's next owner."""
        self._tracker.give_back(record)

    async def drained(self, partitions: Collection[int] | None = None) -> None:
        """Wait until every record handed out, of those partitions or of all, is done."""
        known = self._tracker.partitions()
        await self._tracker.drained(key for key in known if partitions is None or key[1] in partitions)

    async def commit(self) -> bool:
        """Commit the watermarks now. Never raises for Kafka's sake: a failure is logged and tried again later.

        Returns:
            Whether all watermarks are committed.
        """
        return await self._commit(self._settings.request_timeout_ms / 1000)

    async def _commit(self, timeout_s: float) -> bool:
        async with self._commit_lock:
            moved = self._tracker.to_commit()
            if not moved:
                return True
            try:
                # aiokafka itself tries for as long as it takes.
                async with asyncio.timeout(timeout_s):
                    await self._consumer.commit(moved)
            except (KafkaError, IllegalStateError, TimeoutError) as error:
                FAILED.labels(self._group).inc()
                log.warning("group %s: commit failed, will try again: %r", self._group, error)
                self._tracker.not_committed()
                return False
            self._tracker.committed(moved)
            return True

    def position(self, partition: int) -> int | None:
        """Next offset of the assigned topic's partition to be handed out; None while not yet known."""
        return self._tracker.position(TopicPartition(self._topic, partition))

    def end(self, partition: int) -> int | None:
        """End offset of the assigned topic's partition as last seen by a fetch; None while not yet known."""
        wanted = TopicPartition(self._topic, partition)
        if wanted not in self._consumer.assignment():
            return None
        seen: int | None = self._consumer.highwater(wanted)
        position = self._tracker.position(wanted)
        return position if seen is None else max(seen, position or 0)

    # -- moving --------------------------------------------------------------------------------------------------------

    async def _partitions_of(self, topics: Collection[str]) -> set[TopicPartition]:
        async with open_admin(self._settings) as admin:
            described = await admin.describe_topics(sorted(topics))
        return {
            TopicPartition(topic["topic"], part["partition"]) for topic in described for part in topic["partitions"]
        }

    async def _move_to(self, wanted: set[TopicPartition], drain_s: float) -> None:
        async with self._move_lock:
            current = self._consumer.assignment()
            if wanted == current:
                return
            await self._retire(current - wanted, drain_s)
            self._assign(wanted)
            await self._find_positions(wanted - current)

    def _assign(self, wanted: set[TopicPartition]) -> None:
        """Assign and seek without an await between: nothing may be fetched before the seeks."""
        interrupt(self._consumer)
        self._consumer.assign(sorted(wanted))
        for partition in wanted:
            position = self._tracker.position(partition)
            if position is not None:
                self._consumer.seek(partition, position)

    async def _find_positions(self, partitions: Iterable[TopicPartition]) -> None:
        """Ask where new partitions start; what is not answered in time is known with the first record."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                for partition in partitions:
                    start = await self._consumer.position(partition)
                    if not self._tracker.is_tracked(partition):
                        self._tracker.track(partition, start)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.warning("group %s: positions not known yet: %r", self._group, error)

    async def _give_up(self, partitions: Collection[TopicPartition]) -> None:
        """Release partitions that are shared anew; a fetch under way would hold up how it is decided."""
        interrupt(self._consumer)
        await self._release(partitions)

    async def _retire(self, partitions: Collection[TopicPartition], drain_s: float) -> None:
        """Stop taking records of these partitions, and release them."""
        if partitions:
            self._consumer.pause(*partitions)
            await self._release(partitions, drain_s)

    async def _release(self, partitions: Collection[TopicPartition], drain_s: float = DRAIN_S) -> None:
        """Drain partitions for up to `drain_s`, commit and forget them."""
        self.on_release(partitions)
        try:
            async with asyncio.timeout(drain_s):
                await self._tracker.drained(partitions)
        except TimeoutError:
            log.info("group %s: gave up waiting for what is in flight of %d partitions", self._group, len(partitions))
        await self.commit()
        for partition in partitions:
            self._tracker.forget(partition)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _new_consumer(self) -> AIOKafkaConsumer:
        session_ms = self._settings.session_timeout_ms
        return new_consumer(
            self._settings,
            self._client_id,
            group_id=self._group,
            group_instance_id=self._instance_id,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 6,
            rebalance_timeout_ms=max(session_ms, int(DRAIN_S * 2000)),
        )

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        self._background.append(self._tasks.create_task(work, name=f"{name} {self._group}"))

    def _hand_out(self, found: dict[TopicPartition, list[Record]]) -> list[Record]:
        taken: list[Record] = []
        for partition, records in found.items():
            self._tracker.hand_out(partition, records)
            taken += records
        return taken

    async def _commit_in_background(self) -> None:
        changed = self._tracker.changed
        while True:
            await changed.wait()
            changed.clear()
            await asyncio.sleep(COMMIT_INTERVAL_S)
            await self.commit()

    async def _back_off(self, error: KafkaError) -> None:
        pause_s = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1
        log.warning("group %s: reading failed, again in %g s: %r", self._group, pause_s, error)
        await asyncio.sleep(pause_s)
        if self._failures >= len(_BACKOFF_S):
            await self._renew()

    async def _renew(self) -> None:
        """Go on with a new aiokafka consumer: one whose coordination has died raises the same error for ever."""
        renewed = self._new_consumer()
        try:
            await start_client(self._settings, renewed.start())
        except OperatorError as error:
            log.warning("group %s: %s", self._group, error)
            await stop_consumer(renewed)
            return
        async with self._move_lock:
            old, self._consumer = self._consumer, renewed
            partitions = old.assignment()
            await stop_consumer(old)
            if self._topics and self._shares:
                self.on_release(partitions)
                for partition in partitions:
                    self._tracker.forget(partition)
                self._consumer.subscribe(sorted(self._topics), listener=RebalanceListener(self._give_up, self.end_poll))
            elif partitions:
                self._assign(partitions)
        self._failures = 0

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        # aiokafka never lets a static member leave: its partitions would lie idle for the session timeout, though we
        # know that we go. Static membership is for those who could not say so.
        coordinator: Any = consumer._coordinator  # pyright: ignore[reportPrivateUsage] - there is no other way
        if coordinator is not None:
            coordinator._group_instance_id = None
        await stop_consumer(consumer)
