"""Ends a process whose event loop stands still, with the traceback of every thread in its log.

Whoever keeps the process running then starts another; what it held is delivered again. The timer is the interpreter's
own C thread: it goes off even where something never gives the interpreter's lock back.
"""

import asyncio
import faulthandler
from typing import Final

_REARMS: Final = 5
"""Times that the timer is set anew within the limit, so that a late wake-up alone ends nothing."""


async def end_when_hung(limit_s: float) -> None:
    """End the process, with code 1, when this event loop stands still for `limit_s`; until cancelled. 0: never."""
    try:
        while limit_s:
            faulthandler.dump_traceback_later(limit_s, exit=True)
            await asyncio.sleep(limit_s / _REARMS)
    finally:
        faulthandler.cancel_dump_traceback_later()
