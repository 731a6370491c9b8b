"""Bounds what was sent and has not ended, in records and in bytes: whoever sends more waits for room, in turn."""

import asyncio
from collections import deque


class InFlightLimit:
    """Limit of what is in flight, used within one event loop. A single record larger than all room passes alone."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self.records = 0
        self.bytes = 0

    def fits(self, size: int) -> bool:
        """Whether there is room for a record, now and before all who wait."""
        return not self._waiters and self._has_room(size)

    async def wait_for_room(self, size: int) -> None:
        """Wait, behind those who wait already, until there is room for a record."""
        while True:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._waiters:
                    self._waiters.remove(turn)
                elif not turn.cancelled():  # the turn was ours already: it is the next one's
                    self._wake_next()
                raise
            if self._has_room(size):
                return

    def take(self, size: int) -> None:
        """Note a record that is in flight from now on."""
        self.records += 1
        self.bytes += size
        self._idle.clear()
        if self._waiters:
            self._wake_next()

    def release(self, records: int, size: int) -> None:
        """Note records that have ended."""
        self.records -= records
        self.bytes -= size
        if not self.records:
            self._idle.set()
        if self._waiters:
            self._wake_next()

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        await self._idle.wait()

    def _has_room(self, size: int) -> bool:
        return self.records < self._max_records and (not self.bytes or self.bytes + size <= self._max_bytes)

    def _wake_next(self) -> None:
        """Wake the first who waits, who wakes the next when it has taken its room."""
        if self.records >= self._max_records:
            return
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
