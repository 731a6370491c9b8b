"""Replacement of a worker that cannot continue, but whose successor could: a batch never ends, or the device fails.

    ask         -> keep serving in spare slots while other workers take over -> leave
    ask_at_once -> leave: not live, announce it, drain for a short time only -> exit with EXIT_REPLACE

No query is lost: unanswered ones are delivered again to the successor, which takes back the worker's leases. The exit
is hard, because a thread that computes for ever cannot be ended otherwise.

Other workers take over as from any draining worker: the row is marked as draining, its instances are placed elsewhere,
and each partition is handed over once its next owner has loaded. Among the workers of a hardware, only one drains at a
time, and only if another does not; otherwise none would serve. A worker without others leaves without a takeover.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from process.pauses import wait_within
from process.run import EXIT_REPLACE
from store.errors import StoreUnavailable
from store.placement import TakeOver

log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 0.5


class Replacement:
    """Request of a worker process to be replaced."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._at_once = asyncio.Event()
        self.leaves = False
        """True if it no longer serves."""

    @property
    def wanted(self) -> bool:
        """True if the process is to be replaced."""
        return self._wanted.is_set()

    def ask(self, reason: str) -> None:
        """Request a replacement after other workers have taken over; call on the event loop."""
        if not self.wanted:
            log.error("this worker must be replaced: %s", reason)
        self._wanted.set()

    def ask_at_once(self, reason: str) -> None:
        """Request a replacement without a takeover; call on the event loop."""
        self.ask(reason)
        self._at_once.set()

    async def until_taken_over(
        self,
        timeout_s: float,
        alone_s: float,
        is_held_up: Callable[[], bool],
        take_over: Callable[[], Awaitable[TakeOver]],
    ) -> None:
        """Wait until a replacement is requested, and then until other workers have taken over.

        Args:
            timeout_s: most seconds for the takeover.
            alone_s: seconds without other workers, which may be starting, before this one counts as alone.
            is_held_up: returns true if no slot is left to serve with.
            take_over: asks other workers to take over, and returns the progress.
        """
        await self._wanted.wait()
        loop = asyncio.get_running_loop()
        until_s, state, others_at_s = loop.time() + timeout_s, TakeOver.WAITING, loop.time()
        while not self._at_once.is_set() and loop.time() < until_s and not is_held_up():
            try:
                state = await take_over()
            except StoreUnavailable as error:
                log.warning("cannot request a takeover by other workers: %s", error)
            if state is not TakeOver.ALONE:
                others_at_s = loop.time()
            if state is TakeOver.DONE or loop.time() - others_at_s >= alone_s:
                break
            await wait_within(_LOOK_AGAIN_S, self._at_once)
        log.info("leaving to be replaced; takeover: %s", state)

    async def leave(self, stop: asyncio.Event, drain_s: float) -> None:
        """Set `stop`, and exit if the tasks have not ended within `drain_s`."""
        self.leaves = True
        stop.set()
        await asyncio.sleep(drain_s)
        exit_to_be_replaced()


def exit_to_be_replaced() -> NoReturn:
    """End the process at once, regardless of its threads."""
    logging.shutdown()
    os._exit(EXIT_REPLACE)
