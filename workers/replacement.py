"""The end of a worker that cannot go on, but whose successor could: a batch never ends, or a device fails.

    ask         -> serve on in spare slots while others take over what is served here -> leave
    ask_at_once -> leave: not live, announce it, drain what can be drained, for a moment only -> exit with EXIT_REPLACE

Nothing is lost: what is not answered is delivered again to the successor, which takes back the worker's leases. The
exit is hard, since no thread that computes for ever can be ended otherwise.

Others take over as from a worker that is to end: its row says that it drains, so its instances are wanted elsewhere,
and each partition is handed over once its next owner has loaded. One worker drains at a time, and only where another of
its hardware does not: else nobody would serve. One that stays alone leaves all the same.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from process.event_wait import wait_within
from process.run import EXIT_REPLACE
from store.errors import StoreUnavailable
from store.placement import TakeOver

log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 0.5


class Replacement:
    """Wish of a worker process to be replaced."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._at_once = asyncio.Event()
        self.leaves = False
        """Whether it serves no longer."""

    @property
    def wanted(self) -> bool:
        """Whether the process is to be replaced."""
        return self._wanted.is_set()

    def ask(self, reason: str) -> None:
        """Have the process replaced, after others have taken over; call on the event loop."""
        if not self.wanted:
            log.error("this worker is to be replaced: %s", reason)
        self._wanted.set()

    def ask_at_once(self, reason: str) -> None:
        """Have the process replaced without waiting for others; call on the event loop."""
        self.ask(reason)
        self._at_once.set()

    async def until_taken_over(
        self, timeout_s: float, alone_s: float,
        is_held_up: Callable[[], bool], take_over: Callable[[], Awaitable[TakeOver]],
    ) -> None:  # fmt: skip
        """Wait until it is wanted, and until others have taken over.

        Args:
            timeout_s: seconds for others to take over, at most.
            alone_s: seconds for which there must be no others, who may be starting, before it counts as alone.
            is_held_up: says whether no slot is left to serve on.
            take_over: asks others to take over, and says how far that is.
        """
        await self._wanted.wait()
        loop = asyncio.get_running_loop()
        until_s, state, others_at_s = loop.time() + timeout_s, TakeOver.WAITING, loop.time()
        while not self._at_once.is_set() and loop.time() < until_s and not is_held_up():
            try:
                state = await take_over()
            except StoreUnavailable as error:
                log.warning("others cannot be asked to take over: %s", error)
            if state is not TakeOver.ALONE:
                others_at_s = loop.time()
            if state is TakeOver.DONE or loop.time() - others_at_s >= alone_s:
                break
            await wait_within(_LOOK_AGAIN_S, self._at_once)
        log.info("leaving to be replaced; others taking over: %s", state)

    async def leave(self, stop: asyncio.Event, drain_s: float) -> None:
        """Set `stop`, and exit when all has not ended within `drain_s`."""
        self.leaves = True
        stop.set()
        await asyncio.sleep(drain_s)
        exit_to_be_replaced()


def exit_to_be_replaced() -> NoReturn:
    """End the process at once, whatever its threads do."""
    logging.shutdown()
    os._exit(EXIT_REPLACE)
