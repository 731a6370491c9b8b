"""Pauses of polling loops.

A poll without a result costs CPU time of Postgres and of this process. While polls find nothing, the pause doubles, up
to eight times the shortest pause.
"""

import asyncio
from typing import Final

from process.event_wait import wait_within

_LONGEST: Final = 8


class IdlePause:
    """Pause between two polls; a poll that finds something resets it to the shortest."""

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._next_s = shortest_s

    def after(self, found: bool) -> float:
        """Return the seconds to wait after a poll; `found` is true if the poll found something."""
        pause_s = self._shortest_s if found else self._next_s
        self._next_s = min(2 * pause_s, _LONGEST * self._shortest_s)
        return pause_s


class WakeUp:
    """Pause that `call` ends early; a call before the pause counts, too."""

    def __init__(self, shortest_s: float) -> None:
        self._pause = IdlePause(shortest_s)
        self._event = asyncio.Event()
        self._was_called = True

    def call(self) -> None:
        """End the present pause, or the next one."""
        self._event.set()

    async def wait(self, *, found: bool) -> None:
        """Wait until called; the pause is short if the last poll found something or was triggered by a call."""
        await wait_within(self._pause.after(found or self._was_called), self._event)
        self._was_called = self._event.is_set()
        self._event.clear()
