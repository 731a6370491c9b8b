"""When a worker's next status is due: at once after a change of state, soon after work came, in a while otherwise."""

import asyncio

from process.event_wait import wait_within


class StatusTrigger:
    """Waited on by the one task that publishes; told by whoever changes what is published."""

    def __init__(self) -> None:
        self._stirred = asyncio.Event()
        self._changed = asyncio.Event()

    def work(self) -> None:
        """Records came in."""
        self._stirred.set()

    def change(self) -> None:
        """Something changed that others act upon, as the state of an instance."""
        self._stirred.set()
        self._changed.set()

    def begin(self) -> None:
        """A status is put together now: what is told from here on is news for the next one."""
        self._stirred.clear()
        self._changed.clear()

    async def wait(self, interval_s: float, idle_interval_s: float, *, idle: bool) -> None:
        """Until the next status is due after the last one, in which nothing was going on if it was `idle`."""
        if idle:
            await wait_within(idle_interval_s - interval_s, self._stirred)
        await wait_within(interval_s, self._changed)
