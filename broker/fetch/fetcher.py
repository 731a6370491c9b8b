"""Fetcher: reads partitions from brokers in advance, with one request per broker for all readers.

    open_buffer -> begin(partition, start) -> position known -> fetch, one per broker at a time -> buffers -> poll

Rules.
* Each fetch covers all busy partitions that its broker leads, for all readers, from where the last one ended. So no
  partition waits for another, and records that were written together arrive together. A fetch is sent once all records
  are taken, or after a moment. Requests are the main cost, so a reader that takes everything at once should find more
  in each. No reader waits for one that takes nothing.
* Of many partitions, those without records for a while are read by other fetches, which wait longer (`divided_reads`).
* The cost of a fetch grows with the partitions that have records or changed, not with all partitions.
* A partition whose buffer is full, or that its broker refused, is left out for a while; the others are read on. A fetch
  that leaves out a partition because of its buffer waits only briefly: the partition is read again once there is room.
* Fetches have connections of their own, so no other request waits behind a fetch that a broker holds. A fetch that
  lacks a new partition is cancelled, together with its connection.
* Of transactions only committed records are read; an open transaction blocks the records behind its first one.
* No loss is silent. If the log begins behind the next position, or ends before it, reading continues from the start of
  the log, with an alarm (`Losses`). Each fetch names the leader epoch of the last record read. A leader that has lost
  this record tells where its log was cut, and reading continues from there, also with an alarm.
* No error of a broker ends the fetcher, which tries again after a pause. Only a refusal is raised, by `poll`.
"""

import asyncio
import logging
import time
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CorruptRecordException,
    InvalidMessageError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)

from broker.fetch.broker_reads import AskedPartition, BrokerReads, FetchInProgress
from broker.fetch.divided_reads import DividedReads
from broker.fetch.fetch_buffer import FetchBuffer
from broker.fetch.fetch_request import Fetch, FetchAnswer, FetchPace, PartitionData, read_fetched
from broker.fetch.fetched_partition import FetchedPartition, Losses
from broker.fetch.record_batches import Damage
from broker.kafka.offsets import END, START, find_offsets
from process.backoff import Backoff

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 0.05
"""Longest time that a partition waits until fetched records of others are taken."""
_BRIEF_MS: Final = 50
"""Longest wait of a fetch that leaves a partition out, so that this one is read again soon."""
_PARTITION_BYTES: Final = 1024 * 1024
_MOST_PARTITION_BYTES: Final = 64 * 1024 * 1024
_FETCH_BYTES: Final = 16 * 1024 * 1024
_HELD_BYTES: Final = 64 * 1024 * 1024
"""Approximate bytes held by all buffers together; fetches in progress come on top."""
_BACKOFF: Final = Backoff(first_s=0.1, longest_s=2.0)
_REFUSED: Final = (ClusterAuthorizationFailedError, TopicAuthorizationFailedError)
_SESSION_UNKNOWN: Final = (70, 71)
"""Errors of a session that the broker no longer has, or has in another state; it answers a request without one."""
_DAMAGED: Final = (CorruptRecordException, InvalidMessageError)


class Fetcher:
    """Reader of any number of partitions over one client; `run` fetches until cancelled."""

    def __init__(
        self,
        client: AIOKafkaClient,
        pace: FetchPace,
        *,
        losses: Losses | None = None,
        partition_bytes: int = _PARTITION_BYTES,
        lasting: bool = True,
    ) -> None:
        """Make a fetcher; without `lasting` it reads so little that brokers need not keep a session."""
        self._pace = pace
        self._client = client
        self._losses = losses or Losses()
        self._partition_bytes = partition_bytes
        self._buffers: dict[FetchBuffer, None] = {}
        self._changed: dict[FetchBuffer, None] = {}
        """Buffers to look at again."""
        self._filled: dict[FetchBuffer, None] = {}
        """Buffers that are not empty."""
        self._divided = DividedReads(lasting=lasting)
        self._leaderless: set[FetchedPartition] = set()
        self._roomless: set[FetchedPartition] = set()
        self._tasks = asyncio.TaskGroup()
        self._look_again = asyncio.Event()
        self._patient = False
        """True for a moment after records have arrived."""
        self._patience: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        """Timer that ends the time in which nothing is fetched; None outside of it."""
        self._refreshing = False
        self._refreshes = 0
        self._failures = 0
        self._loop = asyncio.get_running_loop()

    def open_buffer(self) -> FetchBuffer:
        """Open the buffer of a consumer, which is filled until `close_buffer`."""
        buffer = FetchBuffer(self._losses, self._on_change, self._client.add_topic)
        self._buffers[buffer] = None
        return buffer

    def close_buffer(self, buffer: FetchBuffer) -> None:
        """Stop reading for a buffer, and stop following its topics."""
        buffer.stop(buffer.partitions)
        del self._buffers[buffer]
        if left := {partition.topic for buffer in self._buffers for partition in buffer.partitions}:
            self._client.set_topics(left)

    def _on_change(self, buffer: FetchBuffer) -> None:
        self._changed[buffer] = None
        self._look_again.set()

    def rest(self, seconds: float) -> None:
        """Begin no fetch for `seconds`, so that the next one returns more records."""
        if self._rest is not None:
            self._rest.cancel()
        self._rest = self._loop.call_later(seconds, self._end_rest)

    def _is_due(self) -> bool:
        """Return true if it is time to fetch more."""
        if self._rest is not None:  # not by comparing times: uvloop's timers may fire early
            return False
        if not self._patient:
            return True
        return len(self._filled) < len(self._buffers) and not any(buffer.is_being_taken for buffer in self._filled)

    # -- fetching ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch until cancelled."""
        self._client.cluster.add_listener(self._on_metadata)
        try:
            async with self._tasks:
                while True:
                    self._look_again.clear()
                    self._start_what_is_due()
                    await self._look_again.wait()
        finally:
            self._client.cluster.remove_listener(self._on_metadata)

    def _on_metadata(self, _cluster: ClusterMetadata) -> None:
        """Look for other leaders."""
        for buffer in self._buffers:
            buffer.note_all()

    def _be_patient(self) -> None:
        """Give the readers a moment to take records, before more are fetched."""
        if self._patience is not None:
            self._patience.cancel()
        self._patient = True
        self._patience = self._loop.call_later(_PATIENCE_S, self._lose_patience)

    def _end_rest(self) -> None:
        self._rest = None
        self._look_again.set()

    def _lose_patience(self) -> None:
        self._patient = False
        self._look_again.set()

    def _start_what_is_due(self) -> None:
        self._look_at_changes()
        if not self._leaderless:
            self._refreshes = 0
        elif not self._refreshing:
            self._refreshing = True
            self._tasks.create_task(self._refresh(), name="metadata")
        if self._is_due():
            for reads in self._divided.due():
                self._start_fetch(reads)

    def _look_at_changes(self) -> None:
        changed, self._changed = self._changed, {}
        most_bytes = _HELD_BYTES // max(len(self._buffers), 1)
        for buffer in changed:
            for state in buffer.changed(most_bytes):
                self._divided.place(buffer, state, self._node(buffer, state), self._partition_bytes)
            if buffer.is_empty or buffer not in self._buffers:
                self._filled.pop(buffer, None)
            else:
                self._filled[buffer] = None

    def _node(self, buffer: FetchBuffer, state: FetchedPartition) -> int | None:
        """Return the broker that a partition can be read from now.

        None: it cannot, after the lookup of a missing position has been started.
        """
        self._leaderless.discard(state)
        self._roomless.discard(state)
        if not buffer.reads(state) or state.set_aside or state.seeking:
            return None
        if not buffer.has_room_for(state):
            self._roomless.add(state)
            return None
        node = self._client.cluster.leader_for_partition(state.key)
        if node is None or node < 0:
            self._leaderless.add(state)
            return None
        if state.position >= 0 and not state.out_of_range:
            return node
        state.seeking = True
        self._tasks.create_task(self._seek(buffer, state), name=f"seek {state.key}")
        return None

    def _start_fetch(self, reads: BrokerReads) -> None:
        def ended(_task: asyncio.Task[None]) -> None:
            reads.fetch = None
            self._look_again.set()

        self._divided.take_over(reads, self._partition_bytes)
        wait_ms = self._wait_ms(reads)
        fetch = reads.fetch = FetchInProgress(brief=wait_ms <= _BRIEF_MS)
        request = Fetch.of(reads.request(), wait_ms, _FETCH_BYTES)
        fetch.task = self._tasks.create_task(self._fetch(reads, fetch, request), name=f"fetch from {reads.node}")
        fetch.task.add_done_callback(ended)

    def _wait_ms(self, reads: BrokerReads) -> int:
        if self._divided.are_idle(reads):
            return self._pace.long_ms
        wait_ms = self._pace.wait_ms(time.monotonic())
        return min(wait_ms, _BRIEF_MS) if self._roomless else wait_ms

    async def _fetch(self, reads: BrokerReads, fetch: FetchInProgress, request: Fetch) -> None:
        connection: Any = reads.connection
        try:
            answer = read_fetched(await self._client.send(reads.node, request, group=connection))
            fetch.answered = True
            refused = self._on_answer(reads, answer)
            self._failures = 0
            if refused:
                self._set_aside(refused)
        except asyncio.CancelledError:
            self._close_connection(reads)
            raise
        except (KafkaError, OSError) as error:
            fetch.answered = True
            self._failures += 1
            pause_s = _BACKOFF.pause_s(self._failures)
            log.warning("reading from broker %d failed, will retry in %g s: %r", reads.node, pause_s, error)
            await asyncio.sleep(pause_s)

    def _on_answer(self, reads: BrokerReads, answer: FetchAnswer) -> list[AskedPartition]:
        """Add the data of an answer; return the partitions that cannot be read now."""
        refused: list[AskedPartition] = []
        if answer.code in _SESSION_UNKNOWN:
            return refused
        if answer.code:
            raise for_code(answer.code)(f"broker {reads.node}")
        reads.session.answered(answer.session)
        now_s = time.monotonic()
        came = False
        for part in answer.partitions:
            asked = reads.asked(part.key)
            if asked is None or self._divided.has_handed_over(reads, asked[1]):
                continue  # no longer read, or moved meanwhile
            buffer, state = asked
            if part.diverged is not None:
                state.go_back(part.diverged)
            elif not part.code:
                if part.data:
                    came = True
                    self._divided.found(reads, buffer, state, now_s)
                self._on_data(state, part)
                buffer.came(state)
            elif not self._is_cared_for(buffer, state, part.code):
                refused.append(asked)
            buffer.note(state)
        if came:
            self._be_patient()
            self._pace.found(now_s)
        self._divided.review(now_s)
        return refused

    def _on_data(self, state: FetchedPartition, part: PartitionData) -> None:
        if not state.add(part.data, part.end, part.aborted):  # no whole batch: only old brokers cut the first one
            self._partition_bytes = min(2 * self._partition_bytes, _MOST_PARTITION_BYTES)

    def _is_cared_for(self, buffer: FetchBuffer, state: FetchedPartition, code: int) -> bool:
        """Handle the error of a partition; return true if it can be read on at once."""
        error = for_code(code)
        if error is OffsetOutOfRangeError:
            state.out_of_range = True
            return True
        if error in _REFUSED:
            buffer.refuse(error(state.key.topic))
        elif error in _DAMAGED and not state.ready:
            place = Damage(state.position, state.position + 1, "the broker cannot read them", certain=False)
            if state.pass_over(place):
                state.move_to(place.next)
        else:
            log.warning("%s/%d cannot be read now: %s", *state.key, error.__name__)
        return False

    def _set_aside(self, refused: list[AskedPartition]) -> None:
        for buffer, state in refused:
            state.set_aside = True
            state.failures += 1
            buffer.note(state)
        self._tasks.create_task(self._take_up(refused), name="retry refused partitions")

    async def _take_up(self, refused: list[AskedPartition]) -> None:
        """Read partitions again, after an update of the metadata."""
        try:
            await self._client.force_metadata_update()
            await asyncio.sleep(_BACKOFF.pause_s(min(state.failures for _, state in refused)))
        finally:
            for buffer, state in refused:
                state.set_aside = False
                buffer.note(state)

    def _close_connection(self, reads: BrokerReads) -> None:
        connections: Any = self._client._conns  # pyright: ignore[reportPrivateUsage] - there is no other way
        connection = connections.get((reads.node, reads.connection))
        if connection is not None:
            connection.close()

    async def _refresh(self) -> None:
        """Update the metadata, at a limited rate."""
        try:
            await self._client.force_metadata_update()
            self._refreshes += 1
            await asyncio.sleep(_BACKOFF.pause_s(self._refreshes))
        finally:
            self._refreshing = False
            self._look_again.set()

    # -- positions -----------------------------------------------------------------------------------------------------

    async def _seek(self, buffer: FetchBuffer, state: FetchedPartition) -> None:
        """Find the position from which to read a partition, or the nearest one if that position is gone."""
        try:
            if state.out_of_range:
                await self._find_way_back(buffer, state)
            else:
                found = await find_offsets(self._client, {state.key: state.position})
                state.move_to(found[state.key])
        except KafkaError as error:
            log.warning("%s/%d: the first offset is not known yet: %r", *state.key, error)
            await self._refresh()
        finally:
            state.seeking = False
            buffer.note(state)

    async def _find_way_back(self, buffer: FetchBuffer, state: FetchedPartition) -> None:
        key, position = state.key, state.position
        await self._client.force_metadata_update()  # a former leader may know less of the log
        start = (await find_offsets(self._client, {key: START}))[key]
        end = (await find_offsets(self._client, {key: END}))[key]
        if not buffer.reads(state):
            return
        if position < start:
            self._losses.deleted(key, position, start)
            state.skip_to(start)
        elif position > end:
            self._losses.cut(key, position, start, end)
            state.move_to(start)
        else:  # the leader may not know the epoch
            state.skip_to(position)
        state.out_of_range = False
