"""Lowers the scheduling priority of a thread."""

import contextlib
import os
import threading
from typing import Final

_NICE: Final = 10


def lower_priority() -> None:
    """Lower the priority of the calling thread for good. Linux only; elsewhere it does nothing. It never raises."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
