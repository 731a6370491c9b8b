"""A service process until it serves: whoever stops it then meets no traceback and no death by a signal.

Most of a start is imports and takes a second or more, so this module imports nothing and is called before them.
`process.run` takes the signals over when there is something to drain.
"""

import os
import signal
import sys
from types import FrameType
from typing import Final

CHECK: Final = "--check"


def leave_when_told() -> None:
    """From now on leave at once at SIGTERM or SIGINT, with exit code 0: nothing was begun.

    A check is not a service, and one that was cut off has not succeeded: it dies of its signal.
    """
    if CHECK in sys.argv:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
