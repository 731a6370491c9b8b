"""Exit of a service process that is stopped before it serves: immediate and without a traceback.

Most of a start is imports, which take a second or more. This module therefore imports nothing slow and is called before
them. `process.run` replaces its signal handlers when there is work to drain.
"""

import os
import signal
import sys
from types import FrameType
from typing import Final

CHECK: Final = "--check"


def exit_on_signal() -> None:
    """Exit at once with code 0 at SIGTERM or SIGINT: no work has begun that could be lost.

    A `--check` is left to die of the signal: an interrupted check has not succeeded.
    """
    if CHECK in sys.argv:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)


def _exit(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
