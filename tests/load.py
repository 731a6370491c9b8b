"""Load at a steady rate."""

import asyncio
from collections.abc import AsyncIterator


class Pace(AsyncIterator[int]):
    """Iterator of numbers from 0, at most `per_s` in a second; it does not catch up, so no burst follows a pause."""

    def __init__(self, per_s: float, count: int | None = None) -> None:
        self._pause_s = 1 / per_s
        self._count = count
        self._next = 0

    async def __anext__(self) -> int:
        if self._next == self._count:
            raise StopAsyncIteration
        if self._next:
            await asyncio.sleep(self._pause_s)  # the rate of the load
        self._next += 1
        return self._next - 1
