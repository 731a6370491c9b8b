"""Trigger of a worker's next status: at once after a change of state, soon after work came, or else after a while."""

import asyncio

from process.event_wait import wait_within


class StatusTrigger:
    """Trigger that the publishing task waits for, and that every change of the published state sets."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()
        self._changed = asyncio.Event()

    def work(self) -> None:
        """Note that records came in."""
        self._stirred.set()

    def change(self) -> None:
        """Note a change that other services act on, e.g. the state of an instance."""
        self._stirred.set()
        self._changed.set()

    def begin(self) -> None:
        """Begin a status: later changes belong to the next one."""
        self._stirred.clear()
        self._changed.clear()

    async def wait(self, interval_s: float, idle_interval_s: float, *, idle: bool) -> None:
        """Wait until the next status is due; `idle`: the last one showed no queries."""
        if idle:
            await wait_within(idle_interval_s - interval_s, self._stirred)
        await wait_within(interval_s, self._changed)
