"""Wait of a polling loop that a call can end early."""

import asyncio

from jobs.idle_pause import IdlePause
from process.event_wait import wait_within


class WakeUp:
    """Wait that `call` ends; a call before the wait counts, too."""

    def __init__(self, shortest_s: float) -> None:
        self._pause = IdlePause(shortest_s)
        self._called = asyncio.Event()
        self._told = True

    def call(self) -> None:
        """End the present wait, or the next one."""
        self._called.set()

    async def wait(self, *, found: bool) -> None:
        """Wait until called; the wait is short if the last poll found something or was triggered by a call."""
        await wait_within(self._pause.after(found or self._told), self._called)
        self._told = self._called.is_set()
        self._called.clear()
