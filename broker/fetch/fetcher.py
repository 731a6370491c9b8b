"""Reads partitions from brokers, ahead of those who take the records.

    begin(partition, from where) -> position known -> fetch, one a broker at a time -> batches -> poll

Rules.
* Each fetch is of all partitions that its broker leads, from where the last one ended, whether or not all was taken of
  what that brought; so none waits for another. It is sent as soon as all is taken, since requests are what costs, and
  who takes everything at once shall find more in each; or after a moment, while less than `_HELD_BYTES` are here.
* Fetches have connections of their own: what else is asked never waits behind one that a broker holds. One that lacks
  a partition is broken off, together with its connection.
* Nothing is passed over in silence. Where the log begins after what was to be read, or ends before it, reading goes on
  from its start, with an alarm (`losses`).
* No error of a broker's ends it, but for a refusal, which `poll` raises: it tries again after a pause.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CorruptRecordException,
    InvalidMessageError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    for_code,
)

from broker.fetch.fetch_api import Fetch, FetchAnswer, read_fetched
from broker.fetch.fetch_session import FetchSession
from broker.fetch.fetched_partition import FetchedPartition
from broker.fetch.losses import Losses
from broker.fetch.offset_search import END, START, find_offsets
from broker.fetch.record_batches import Damage
from broker.fetch_pace import FetchPace
from broker.kafka_types import Record

log = logging.getLogger(__name__)

_HELD_BYTES: Final = 4 * 1024 * 1024
_LEFT_OUT_BYTES: Final = 1024 * 1024
"""Bytes that are here of a partition that is left out, after which no more of it is fetched."""
_PATIENCE_S: Final = 0.05
"""The longest that a partition waits for what is here of others to be taken."""
_PARTITION_BYTES: Final = 1024 * 1024
_MOST_PARTITION_BYTES: Final = 64 * 1024 * 1024
_FETCH_BYTES: Final = 16 * 1024 * 1024
_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_REFUSED: Final = (ClusterAuthorizationFailedError, TopicAuthorizationFailedError)
_SESSION_UNKNOWN: Final = (70, 71)
"""Errors of a session that the broker no longer has, or not so; asked without it, it answers."""
_DAMAGED: Final = (CorruptRecordException, InvalidMessageError)


class _Fetch:
    """A fetch under way: from where it reads which partitions."""

    def __init__(self, node: int, partitions: Iterable[FetchedPartition]) -> None:
        self.node = node
        self.asked = {partition.key: (partition, partition.position) for partition in partitions}
        self.task: asyncio.Task[None] | None = None
        self.answered = False
        """Whether the broker has answered, and only a pause is left."""

    def break_off_unless_of(self, partitions: Iterable[FetchedPartition]) -> None:
        """Break it off if one of these is not read by it, or from another place."""
        if self.answered or self.task is None:
            return
        if any(self.asked.get(partition.key) != (partition, partition.position) for partition in partitions):
            self.task.cancel()


class Fetcher:
    """Reader of any number of partitions over one client; `run` reads, beside those who `poll`, until cancelled."""

    def __init__(
        self,
        client: AIOKafkaClient,
        pace: FetchPace,
        *,
        losses: Losses | None = None,
        partition_bytes: int = _PARTITION_BYTES,
        lasting: bool = True,
        connections: str = "fetch",
    ) -> None:
        """One that is not `lasting` reads so little that no broker need remember what.

        aiokafka keeps a connection for each broker and word like `connections`; it uses two of its own.
        """
        self.pace = pace
        self._client = client
        self._connections: Any = connections
        self._losses = losses or Losses()
        self._partition_bytes = partition_bytes
        self._partitions: dict[TopicPartition, FetchedPartition] = {}
        self._ready: dict[FetchedPartition, None] = {}
        """Those of which there is something to take, in turn."""
        self._left_out: frozenset[str] = frozenset()
        self._fetches: dict[int, _Fetch] = {}
        self._sessions = defaultdict[int, FetchSession](lambda: FetchSession(lasting=lasting))
        """By broker."""
        self._look_again = asyncio.Event()
        self._arrived = asyncio.Event()
        self._patient = False
        """Whether what came last came but a moment ago."""
        self._patience: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        """The end of the time in which nothing is fetched."""
        self._refreshing = False
        self._refreshes = 0
        self._failures = 0
        self._refusal: KafkaError | None = None
        self._loop = asyncio.get_running_loop()

    # -- which partitions ----------------------------------------------------------------------------------------------

    def begin(self, partition: TopicPartition, position: int) -> asyncio.Future[int]:
        """Read a partition from `position`, or from its `START` or `END`; returns the first position, once known."""
        self.stop([partition])
        state = FetchedPartition(partition, position, self._loop.create_future(), self._losses)
        self._partitions[partition] = state
        state.move_to(position)
        self._client.add_topic(partition.topic)
        self._look_again.set()
        return state.start

    def stop(self, partitions: Collection[TopicPartition]) -> None:
        """Read these no more; what is here of them is dropped, and nobody gets it."""
        for partition in partitions:
            state = self._partitions.pop(partition, None)
            if state is not None:
                state.start.cancel()
                self._ready.pop(state, None)
        self._look_again.set()

    def leave_out(self, topics: Collection[str]) -> None:
        """Have `poll` return none of these topics, and keep a little of them, until called again without them."""
        self._left_out = frozenset(topics)
        self._look_again.set()
        self._arrived.set()

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """Partitions that are read."""
        return frozenset(self._partitions)

    def end(self, partition: TopicPartition) -> int | None:
        """Offset after the partition's last record as last heard; None while it was not."""
        state = self._partitions.get(partition)
        return state.end if state else None

    # -- records -------------------------------------------------------------------------------------------------------

    async def poll(self, max_records: int = 500) -> dict[TopicPartition, list[Record]]:
        """Take the next records, at least one; waits for them.

        Raises:
            KafkaError: Kafka refuses this client.
        """
        while True:
            if self._refusal is not None:
                error, self._refusal = self._refusal, None
                raise error
            found = self._take(max_records)
            if found:
                return found
            self._arrived.clear()
            await self._arrived.wait()

    def rest(self, seconds: float) -> None:
        """Begin no fetch for so long, so that the next one brings more."""
        if self._rest is not None:
            self._rest.cancel()
        self._rest = self._loop.call_later(seconds, self._end_rest)

    def refuse(self, error: KafkaError) -> None:
        """Have `poll` raise this: Kafka refuses us."""
        self._refusal = error
        self._arrived.set()

    def _take(self, limit: int) -> dict[TopicPartition, list[Record]]:
        found: dict[TopicPartition, list[Record]] = {}
        for state in self._wanted():
            records = state.take(limit)
            del self._ready[state]
            if state.ready:
                self._ready[state] = None  # the others come first now
            else:
                self._look_again.set()
            if records:
                found[state.key] = records
                limit -= len(records)
                if not limit:
                    break
        return found

    def _wanted(self) -> list[FetchedPartition]:
        """Those of which there is something to take that may be taken."""
        if not self._left_out:
            return list(self._ready)
        return [state for state in self._ready if state.key.topic not in self._left_out]

    def _is_due(self) -> bool:
        """Whether to fetch more."""
        if self._rest is not None:  # not by the clock: uvloop's timers may end before the time they name
            return False
        wanted = self._wanted()
        return not wanted or (not self._patient and sum(state.held_bytes for state in wanted) < _HELD_BYTES)

    # -- fetching ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._look_again.clear()
                self._start_what_is_due(tasks)
                await self._look_again.wait()

    def _be_patient(self) -> None:
        """Give those who take records a moment before more are fetched."""
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

    def _start_what_is_due(self, tasks: asyncio.TaskGroup) -> None:
        by_node: dict[int, list[FetchedPartition]] = {}
        leaderless = False
        for state in self._partitions.values():
            node = self._client.cluster.leader_for_partition(state.key)
            if node is None or node < 0:
                leaderless = True
            elif state.held_bytes >= _LEFT_OUT_BYTES and state.key.topic in self._left_out:
                continue
            elif state.position >= 0 and not state.out_of_range:
                by_node.setdefault(node, []).append(state)
            elif not state.seeking:
                state.seeking = True
                tasks.create_task(self._seek(state), name=f"seek {state.key}")
        if not leaderless:
            self._refreshes = 0
        elif not self._refreshing:
            self._refreshing = True
            tasks.create_task(self._refresh(), name="metadata")
        due = self._is_due()
        for node, states in by_node.items():
            under_way = self._fetches.get(node)
            if under_way is not None:
                under_way.break_off_unless_of(states)
            elif due:
                self._start_fetch(_Fetch(node, states), tasks)

    def _start_fetch(self, fetch: _Fetch, tasks: asyncio.TaskGroup) -> None:
        def ended(_task: asyncio.Task[None]) -> None:
            del self._fetches[fetch.node]
            self._look_again.set()

        self._fetches[fetch.node] = fetch
        fetch.task = tasks.create_task(self._fetch(fetch), name=f"fetch from {fetch.node}")
        fetch.task.add_done_callback(ended)

    async def _fetch(self, fetch: _Fetch) -> None:
        try:
            answer = read_fetched(await self._client.send(fetch.node, self._request(fetch), group=self._connections))
            fetch.answered = True
            readable = self._on_answer(fetch, answer)
            self._failures = 0
            if not readable:
                await self._refresh()
        except asyncio.CancelledError:
            self._close_connection(fetch.node)
            raise
        except (KafkaError, OSError) as error:
            fetch.answered = True
            pause_s = _pause_s(self._failures)
            self._failures += 1
            log.warning("reading from broker %d failed, again in %g s: %r", fetch.node, pause_s, error)
            await asyncio.sleep(pause_s)

    def _request(self, fetch: _Fetch) -> Fetch:
        asked = [*fetch.asked.values()]
        random.shuffle(asked)  # the first ones fill the answer when there is more than it may hold
        wanted = {state.key: (position, self._partition_bytes) for state, position in asked}
        request = self._sessions[fetch.node].request(wanted)
        return Fetch.of(request, self.pace.wait_ms(time.monotonic()), _FETCH_BYTES)

    def _on_answer(self, fetch: _Fetch, answer: FetchAnswer) -> bool:
        """Take what came; returns whether all partitions could be read."""
        if answer.code in _SESSION_UNKNOWN:
            return True
        if answer.code:
            raise for_code(answer.code)(f"broker {fetch.node}")
        self._sessions[fetch.node].answered(answer.session)
        came, failed = False, False
        for key, code, end, data in answer.partitions:
            state, position = fetch.asked[key]
            if self._partitions.get(key) is not state or state.position != position:
                continue  # no longer ours, or moved meanwhile
            if not code:
                came |= self._on_data(state, data, end)
            else:
                failed |= self._on_error(state, code)
        if came:
            self._be_patient()
            self.pace.found(time.monotonic())
            self._arrived.set()
        return not failed

    def _on_data(self, state: FetchedPartition, data: bytes, end: int) -> bool:
        """Take what came of a partition; returns whether anything did."""
        if not state.add(data, end):  # not one whole batch: only old brokers cut the first one
            self._partition_bytes = min(2 * self._partition_bytes, _MOST_PARTITION_BYTES)
        if state.ready:
            self._ready.setdefault(state)
        return bool(data)

    def _on_error(self, state: FetchedPartition, code: int) -> bool:
        """Do what the error of a partition asks for; returns whether to look at the metadata, and pause."""
        error = for_code(code)
        if error is OffsetOutOfRangeError:
            state.out_of_range = True
            return False
        if error in _REFUSED:
            self.refuse(error(state.key.topic))
        elif error in _DAMAGED and not state.ready:
            place = Damage(state.position, state.position + 1, "the broker cannot read them", certain=False)
            if state.pass_over(place):
                state.move_to(place.next)
        else:
            log.warning("%s/%d cannot be read now: %s", *state.key, error.__name__)
        return True

    def _close_connection(self, node: int) -> None:
        connections: Any = self._client._conns  # pyright: ignore[reportPrivateUsage] - there is no other way
        connection = connections.get((node, self._connections))
        if connection is not None:
            connection.close()

    async def _refresh(self) -> None:
        """Learn anew who leads what, not too often."""
        try:
            await self._client.force_metadata_update()
            await asyncio.sleep(_pause_s(self._refreshes))
            self._refreshes += 1
        finally:
            self._refreshing = False
            self._look_again.set()

    # -- places --------------------------------------------------------------------------------------------------------

    async def _seek(self, state: FetchedPartition) -> None:
        """Find the place that a partition is to be read from, or the next one to that where it no longer is."""
        try:
            if state.out_of_range:
                await self._find_way_back(state)
            else:
                found = await find_offsets(self._client, {state.key: state.position})
                state.move_to(found[state.key])
        except KafkaError as error:
            log.warning("%s/%d: where it begins is not known yet: %r", *state.key, error)
            await self._refresh()
        finally:
            state.seeking = False
            self._look_again.set()

    async def _find_way_back(self, state: FetchedPartition) -> None:
        key, position = state.key, state.position
        start = (await find_offsets(self._client, {key: START}))[key]
        end = (await find_offsets(self._client, {key: END}))[key]
        if self._partitions.get(key) is not state:
            return
        if position < start:
            self._losses.deleted(key, position, start)
            state.skip_to(start)
        elif position > end:
            self._losses.cut(key, position, start, end)
            state.move_to(start)
        state.out_of_range = False


def _pause_s(times: int) -> float:
    """Seconds to wait after it failed so many times before."""
    return _BACKOFF_S[min(times, len(_BACKOFF_S) - 1)]
