"""What lets others go first where the cores are shared."""

import contextlib
import os
import threading
from typing import Final

_NICE: Final = 10


def lower_priority() -> None:
    """Let other threads and processes go first from now on; of the calling thread only. Linux only; it cannot fail."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
