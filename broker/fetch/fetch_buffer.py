"""Buffer of one consumer in a fetcher: its partitions, and their fetched records that were not taken yet.

Consumers of the same fetcher share its requests and nothing else. A full buffer is left out of the requests until it
has room. A buffer whose consumer does not poll (`pause`) delays no other.
"""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from broker.fetch.fetched_partition import FetchedPartition, Losses, TakenRecords

_HELD_BYTES: Final = 4 * 1024 * 1024
_WAITING_BYTES: Final = 1024 * 1024
"""Bytes held that nobody takes for now, after which no more are fetched: of a buffer that pauses, and of each partition
that is left out."""
_LEFT_OUT_BYTES: Final = 8 * _WAITING_BYTES
"""The same limit for all partitions together that are left out."""
_NONE: Final = frozenset[FetchedPartition]()


class FetchBuffer:
    """Buffer between a fetcher and one consumer, made by `Fetcher.open_buffer`."""

    def __init__(
        self, losses: Losses, look_again: Callable[["FetchBuffer"], None], know: Callable[[str], object]
    ) -> None:
        """Take two callbacks: `look_again` wakes the fetcher, and `know` adds a topic to the client's metadata."""
        self._losses = losses
        self._look_again = partial(look_again, self)
        self._know = know
        self._noted: dict[FetchedPartition, None] = {}
        """Partitions that may have to be read from elsewhere, or no longer, since the last `changed`."""
        self._blocked: frozenset[FetchedPartition] = frozenset()
        """Partitions without room for more records, as of the last `changed`."""
        self._paused = False
        """True if the consumer takes nothing for now."""
        self._partitions: dict[TopicPartition, FetchedPartition] = {}
        self._ready: dict[FetchedPartition, None] = {}
        """Partitions with records to take, in turn."""
        self._left_out: frozenset[str | tuple[str, int]] = frozenset()
        """Topics, and partitions of other topics, that are not taken from for now."""
        self._arrived = asyncio.Event()
        self._refusal: KafkaError | None = None

    # -- which partitions ----------------------------------------------------------------------------------------------

    def begin(self, partition: TopicPartition, position: int) -> asyncio.Future[int]:
        """Read a partition from `position`, or from its `START` or `END`; return a future of the first position."""
        self.stop([partition])
        start: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        state = FetchedPartition(partition, position, start, self._losses)
        self._partitions[partition] = state
        state.move_to(position)
        self._know(partition.topic)
        self.note(state)
        return start

    def stop(self, partitions: Collection[TopicPartition]) -> None:
        """Stop reading partitions; their fetched records are dropped."""
        for partition in partitions:
            state = self._partitions.pop(partition, None)
            if state is not None:
                state.start.cancel()
                self._ready.pop(state, None)
                self.note(state)

    def leave_out(self, topics: Collection[str | tuple[str, int]]) -> None:
        """Make `poll` skip these topics or partitions, and hold only a few of their records, until the next call."""
        self._left_out = frozenset(topics)
        self._look_again()
        self._arrived.set()

    @property
    def partitions(self) -> frozenset[TopicPartition]:
        """Partitions that are read."""
        return frozenset(self._partitions)

    def taken(self, partition: TopicPartition) -> int:
        """Return the offset behind all records that `poll` returned or passed; -1 if the partition is not read."""
        state = self._partitions.get(partition)
        return state.taken if state else -1

    def end(self, partition: TopicPartition) -> int | None:
        """Return the offset behind the partition's last readable record, as received last; None before that."""
        state = self._partitions.get(partition)
        return state.end if state else None

    # -- records -------------------------------------------------------------------------------------------------------

    async def poll(self, max_records: int = 500, max_bytes: int | None = None) -> dict[TopicPartition, TakenRecords]:
        """Wait for the next records, and take them. The last one may go beyond `max_bytes`; None ignores sizes.

        A partition that is returned without records has moved all the same: it had transaction markers, records of
        aborted transactions, or damage.

        Raises:
            KafkaError: Kafka refuses this client.
        """
        self._paused = False
        while True:
            if self._refusal is not None:
                error, self._refusal = self._refusal, None
                raise error
            found = self._take(max_records, max_bytes)
            if found:
                return found
            self._arrived.clear()
            await self._arrived.wait()

    def pause(self) -> None:
        """Hold fetched records until the next `poll`, without making other buffers wait for it."""
        self._paused = True
        if self._ready:
            self._look_again()

    def refuse(self, error: KafkaError) -> None:
        """Make `poll` raise this error, because Kafka refuses this client."""
        self._refusal = error
        self._arrived.set()

    def _take(self, limit: int, room: int | None) -> dict[TopicPartition, TakenRecords]:
        found: dict[TopicPartition, TakenRecords] = {}
        for state in self._wanted():
            before, position = state.taken, state.position
            taken = state.take(limit, room)
            del self._ready[state]
            if state.position != position:  # damage is read again
                self._noted[state] = None
            if state.ready:
                self._ready[state] = None  # now the others come first
            if self._blocked or not state.ready:
                self._look_again()
            if taken.records or state.taken > before:
                found[state.key] = taken
                limit -= len(taken.records)
                if room is not None:
                    room -= sum(taken.sizes.values())
                if limit <= 0 or (room is not None and room <= 0):
                    break
        return found

    def _wanted(self) -> list[FetchedPartition]:
        """Return the partitions with records to take that are not left out."""
        if not self._left_out:
            return list(self._ready)
        return [state for state in self._ready if not self._is_left_out(state)]

    # -- for the fetcher -----------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to take."""
        return not self._wanted()

    @property
    def is_being_taken(self) -> bool:
        """True if there are records that the consumer will take in a moment."""
        return not (self._paused or self.is_empty)

    def note(self, state: FetchedPartition) -> None:
        """Note that a partition may have to be read from elsewhere, or no longer."""
        self._noted[state] = None
        self._look_again()

    def note_all(self) -> None:
        """Note all partitions, because their leaders may have changed."""
        self._noted.update(dict.fromkeys(self._partitions.values()))
        self._look_again()

    def changed(self, most_bytes: int = _HELD_BYTES) -> list[FetchedPartition]:
        """Return the partitions that may have to be read from elsewhere, or no longer, since the last call.

        The buffer may hold `most_bytes`.
        """
        blocked = self._without_room(most_bytes)
        noted, self._noted = self._noted, {}
        if blocked != self._blocked:
            noted |= dict.fromkeys(blocked ^ self._blocked)
            self._blocked = blocked
        return list(noted)

    def has_room_for(self, state: FetchedPartition) -> bool:
        """Return true if more records of a partition can be held, as of the last call of `changed`."""
        return state not in self._blocked

    def _without_room(self, most_bytes: int) -> frozenset[FetchedPartition]:
        if not self._ready:
            return _NONE
        most_bytes = min(most_bytes, _WAITING_BYTES if self._paused else _HELD_BYTES)
        if sum(state.held_bytes for state in self._wanted()) >= most_bytes:
            return frozenset(self._partitions.values())
        if not self._left_out:
            return _NONE
        left_out = [state for state in self._ready if self._is_left_out(state)]
        if sum(state.held_bytes for state in left_out) >= _LEFT_OUT_BYTES:
            return frozenset(state for state in self._partitions.values() if self._is_left_out(state))
        return frozenset(state for state in left_out if state.held_bytes >= _WAITING_BYTES)

    def _is_left_out(self, state: FetchedPartition) -> bool:
        return state.key.topic in self._left_out or state.key in self._left_out

    def reads(self, state: FetchedPartition) -> bool:
        """Return true if a partition is still read."""
        return self._partitions.get(state.key) is state

    def came(self, state: FetchedPartition) -> None:
        """Note that there may be records to take from a partition."""
        if state.ready:
            self._ready.setdefault(state)
            self._arrived.set()
