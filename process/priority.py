"""Lets other threads and processes go first where the cores are shared."""

import contextlib
import os
import threading
from typing import Final

_NICE: Final = 10


def lower_priority() -> None:
    """Let others go before the calling thread from now on. Linux only; elsewhere it does nothing. It cannot fail."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
