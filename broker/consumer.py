"""Reads topics at least once, with records finished in any order.

    batch() -> records out -> done(record) in any order -> low-water mark per partition -> committed in the background

Rules.
* Only the low-water mark is committed, so after any crash every record not done is delivered again. A record done whose
  offset was not yet committed is delivered again too: at least once.
* While `max_in_flight` records are out nothing more is taken, until a quarter of them is done; what is fetched
  meanwhile is bounded by one fetch per partition.
* Two ways to get partitions. `assign`: the caller decides (workers: placement and leases); commits go to the group all
  the same, without its protocol. `subscribe`: the group protocol decides (selectors). An instance id makes a member
  static: killed and started again, it gets its partitions back at once, without a rebalance.
* A partition taken away is drained for a moment, committed and forgotten; `done` of its records is then a no-op.
* No transient error ends `batch`: it backs off and goes on. A failed commit is tried again with the next one.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Self, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)

from broker.client import new_consumer, reach
from broker.settings import KafkaSettings
from broker.watermark import Watermark
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]

COMMIT_EVERY_S = 0.2
DRAIN_S = 2.0
_POLL_MS = 10_000
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_REFUSED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    SaslAuthenticationFailed,
)


class Consumer:
    """Async context manager. One task calls `batch`; `done` may be called from anywhere in the event loop."""

    def __init__(
        self,
        settings: KafkaSettings,
        client_id: str,
        *,
        group: str,
        instance_id: str | None = None,
        max_in_flight: int = 1000,
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._group = group
        self._instance_id = instance_id
        self._max_in_flight = max_in_flight
        self._resume_at = max_in_flight * 3 // 4
        self._consumer = self._new_consumer()
        self._marks: dict[tuple[str, int], Watermark] = {}
        self._committed: dict[tuple[str, int], int] = {}
        self._in_flight = 0
        self._full = False
        self._room = asyncio.Event()
        self._dirty = False
        self._changed = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._failures = 0
        self._tasks = asyncio.TaskGroup()
        self._committer: asyncio.Task[None] | None = None
        self._topic = ""
        self._topics: frozenset[str] = frozenset()

    @property
    def in_flight(self) -> int:
        """Records handed out and not done."""
        return self._in_flight

    async def __aenter__(self) -> Self:
        await reach(self._settings, self._consumer.start())
        await self._tasks.__aenter__()
        self._committer = self._tasks.create_task(self._commit_in_background(), name=f"commit {self._group}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.commit()
        finally:
            if self._committer is not None:
                self._committer.cancel()
            await self._tasks.__aexit__(None, None, None)
            await self._consumer.stop()

    # -- which partitions ----------------------------------------------------------------------------------------------

    async def subscribe(self, topics: Collection[str]) -> None:
        """Share the partitions of `topics` with the group's other members; may be called again with more topics."""
        wanted = frozenset(topics)
        if wanted == self._topics:
            return
        await self._retire(self._consumer.assignment(), DRAIN_S)
        self._topics = wanted
        self._consumer.subscribe(sorted(wanted), listener=_Rebalance(self))

    async def assign(self, topic: str, partitions: Collection[int], *, drain_s: float = DRAIN_S) -> None:
        """Read exactly `partitions` of `topic`, each from its committed offset or else from the earliest.

        May be called again: kept partitions continue without loss or repeat. Those no longer named stop at once; for up
        to `drain_s` this waits until what is out of them is done; then they are committed and forgotten.
        """
        wanted = {TopicPartition(topic, partition) for partition in partitions}
        current = self._consumer.assignment()
        self._topic = topic
        if wanted == current:
            return
        await self._retire(current - wanted, drain_s)
        self._consumer.assign(sorted(wanted))
        for partition in wanted & current:
            mark = self._marks.get(partition)
            if mark is not None:
                self._consumer.seek(partition, mark.next)
        await self._locate(wanted - current)

    # -- records -------------------------------------------------------------------------------------------------------

    async def batch(self, max_records: int = 500) -> list[Record]:
        """The next records, at least one; waits for them, and while `max_in_flight` are out.

        Raises:
            OperatorError: Kafka refuses this client; waiting will not help.
        """
        while True:
            if self._full:
                self._room.clear()
                await self._room.wait()
            limit = min(max_records, self._max_in_flight - self._in_flight)
            try:
                found = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=limit)
            except _REFUSED as error:
                raise OperatorError(f"Kafka refuses group {self._group}: {error}") from error
            except KafkaError as error:
                await self._back_off(error)
                continue
            self._failures = 0
            if found:
                return self._take(found)

    def done(self, record: Record) -> None:
        """The record's result is acknowledged: its offset may be committed. No-op if done before or no longer ours."""
        mark = self._marks.get((record.topic, record.partition))
        if mark is None or not mark.finish(record.offset):
            return
        self._in_flight -= 1
        if not self._dirty:
            self._dirty = True
            self._changed.set()
        if self._full and self._in_flight <= self._resume_at:
            self._full = False
            self._room.set()
        if self._drain_waiters and not mark.open:
            self._wake_drained()

    async def drained(self, partitions: Collection[int] | None = None) -> None:
        """Wait until every record handed out, of those partitions or of all, is done."""
        await self._drained(key for key in self._marks if partitions is None or key[1] in partitions)

    async def commit(self) -> bool:
        """Commit the low-water marks now. Never raises for Kafka's sake: a failure is logged and tried again later.

        Returns:
            Whether all marks are committed.
        """
        async with self._commit_lock:
            self._dirty = False
            moved = {
                TopicPartition(*key): mark.mark for key, mark in self._marks.items() if mark.mark > self._committed[key]
            }
            if not moved:
                return True
            try:
                async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                    await self._consumer.commit(moved)
            except (KafkaError, IllegalStateError, TimeoutError) as error:
                log.warning("group %s: commit failed, will try again: %r", self._group, error)
                self._dirty = True
                self._changed.set()
                return False
            self._committed.update((key, offset) for key, offset in moved.items() if key in self._committed)
            return True

    def position(self, partition: int) -> int | None:
        """Next offset of the assigned topic's partition to be handed out; None while not yet known."""
        mark = self._marks.get((self._topic, partition))
        return mark.next if mark else None

    def end(self, partition: int) -> int | None:
        """End offset of the assigned topic's partition as last seen by a fetch; None while not yet known."""
        wanted = TopicPartition(self._topic, partition)
        if wanted not in self._consumer.assignment():
            return None
        seen: int | None = self._consumer.highwater(wanted)
        position = self.position(partition)
        return position if seen is None else max(seen, position or 0)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _new_consumer(self) -> AIOKafkaConsumer:
        session = self._settings.session_timeout_ms
        return new_consumer(
            self._settings,
            self._client_id,
            group_id=self._group,
            group_instance_id=self._instance_id,
            auto_offset_reset="earliest",
            session_timeout_ms=session,
            heartbeat_interval_ms=session // 4,
            rebalance_timeout_ms=max(session, int(DRAIN_S * 2000)),
        )

    def _take(self, found: dict[TopicPartition, list[Record]]) -> list[Record]:
        taken: list[Record] = []
        for partition, records in found.items():
            mark = self._marks.get(partition) or self._watch(partition, records[0].offset)
            mark.hand_out([record.offset for record in records])
            taken += records
        self._in_flight += len(taken)
        if self._in_flight >= self._max_in_flight:
            self._full = True
        return taken

    def _watch(self, partition: TopicPartition, start: int) -> Watermark:
        mark = self._marks[partition] = Watermark(start)
        self._committed[partition] = start
        return mark

    async def _locate(self, partitions: Iterable[TopicPartition]) -> None:
        """Learn where new partitions start; what cannot be learnt in time is known with the first record."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                for partition in partitions:
                    start = await self._consumer.position(partition)
                    if partition not in self._marks:
                        self._watch(partition, start)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            log.warning("group %s: positions not known yet: %r", self._group, error)

    async def _retire(self, partitions: Collection[TopicPartition], drain_s: float) -> None:
        if not partitions:
            return
        self._consumer.pause(*(partitions & self._consumer.assignment()))
        await self._settle(partitions, drain_s)

    async def _settle(self, partitions: Collection[TopicPartition], drain_s: float) -> None:
        """Drain for up to `drain_s`, commit, forget."""
        try:
            async with asyncio.timeout(drain_s):
                await self._drained(partitions)
        except TimeoutError:
            log.info(
                "group %s: what is not done of %d partitions goes to their next owner", self._group, len(partitions)
            )
        await self.commit()
        for partition in partitions:
            self._forget(partition)

    def _forget(self, partition: TopicPartition) -> None:
        mark = self._marks.pop(partition, None)
        self._committed.pop(partition, None)
        if mark is not None:
            self._in_flight -= mark.open
            if self._full and self._in_flight <= self._resume_at:
                self._full = False
                self._room.set()
            self._wake_drained()

    async def _drained(self, keys: Iterable[tuple[str, int]]) -> None:
        waiting = [mark for key in keys if (mark := self._marks.get(key))]
        while any(mark.open for mark in waiting):
            woken = asyncio.get_running_loop().create_future()
            self._drain_waiters.append(woken)
            await woken
            waiting = [mark for mark in waiting if mark in self._marks.values()]

    def _wake_drained(self) -> None:
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._drain_waiters.clear()

    async def _commit_in_background(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(COMMIT_EVERY_S)
            await self.commit()

    async def _back_off(self, error: KafkaError) -> None:
        pause = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1
        log.warning("group %s: reading failed, again in %g s: %r", self._group, pause, error)
        await asyncio.sleep(pause)


class _Rebalance(ConsumerRebalanceListener):
    """Gives up partitions in good order when the group protocol takes them."""

    def __init__(self, owner: Consumer) -> None:
        self._owner = owner

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._owner._settle(revoked, DRAIN_S)  # pyright: ignore[reportPrivateUsage]

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        log.info("got %d partitions", len(assigned))
