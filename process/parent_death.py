"""End of a child process at the death of its parent.

The kernel signals a child when the thread that started it dies (PR_SET_PDEATHSIG), so a SIGKILL of the parent leaves no
orphan. Linux only; on other systems only a clean exit stops the child.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None)


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that requests the signal `number` for the child when its parent thread dies."""
    parent = os.getpid()

    return lambda: end_with_parent(number, parent)


def end_with_parent(number: signal.Signals, parent: int) -> None:
    """Request the signal `number` when the parent thread dies; exit at once if `parent` is dead already."""
    if sys.platform != "linux":
        return
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before the request
        os._exit(1)
