"""Waits for what is new: until told, or until it is time to look anyway."""

import asyncio

from jobs.idle_pause import IdlePause
from process.event_wait import wait_within


class WakeUp:
    """Call that ends a wait; one that came before the wait counts, too."""

    def __init__(self, shortest_s: float) -> None:
        self._pause = IdlePause(shortest_s)
        self._called = asyncio.Event()
        self._told = True

    def call(self) -> None:
        """End the present wait, or the next."""
        self._called.set()

    async def wait(self, *, found: bool) -> None:
        """Wait until called, and not for long after a look that found something or was called for."""
        await wait_within(self._pause.after(found or self._told), self._called)
        self._told = self._called.is_set()
        self._called.clear()
