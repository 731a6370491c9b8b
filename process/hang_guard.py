"""Ends a process whose event loop is blocked, and logs the traceback of every thread.

The supervisor of the process then starts another, and Kafka delivers the unfinished records again. The timer is a C
thread of the interpreter: it fires even if some code never releases the GIL.
"""

import asyncio
import faulthandler
from typing import Final

_REARMS: Final = 5
"""Resets of the timer within the limit, so that one late wake-up does not end the process."""


async def end_when_hung(limit_s: float) -> None:
    """End the process with code 1 when its event loop is blocked for `limit_s` (0: never); runs until cancelled."""
    try:
        while limit_s:
            faulthandler.dump_traceback_later(limit_s, exit=True)
            await asyncio.sleep(limit_s / _REARMS)
    finally:
        faulthandler.cancel_dump_traceback_later()
