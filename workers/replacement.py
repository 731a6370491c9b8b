"""The end of a worker that cannot go on, but whose successor could: a batch never ends, or a device fails.

    ask -> not live, leave: announce it, drain what can be drained, for a moment only -> exit with EXIT_REPLACE

Nothing is lost: what is not answered is delivered again to the successor, which takes back the worker's leases. The
exit is hard, since no thread that computes for ever can be ended otherwise.
"""

import asyncio
import logging
import os
from typing import NoReturn

from process.run import EXIT_REPLACE

log = logging.getLogger(__name__)


class Replacement:
    """Wish of a worker process to be replaced."""

    def __init__(self) -> None:
        self._wanted = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Whether the process is to be replaced."""
        return self._wanted.is_set()

    def ask(self, reason: str) -> None:
        """Have the process replaced; call on the event loop."""
        if not self.wanted:
            log.error("this worker is to be replaced: %s", reason)
        self._wanted.set()

    async def carry_out(self, stop: asyncio.Event, drain_s: float) -> None:
        """Wait until it is wanted, then set `stop`; exit when all has not ended within `drain_s`."""
        await self._wanted.wait()
        stop.set()
        await asyncio.sleep(drain_s)
        exit_to_be_replaced()


def exit_to_be_replaced() -> NoReturn:
    """End the process at once, whatever its threads do."""
    logging.shutdown()
    os._exit(EXIT_REPLACE)
