"""How a service process leaves when it is stopped before it serves: at once, in good order, with no traceback.

Most of a start is imports and takes a second or more, so this module imports nothing and is called before them.
`process.run` takes the signals over when there is something to drain.
"""

import os
import signal
import sys
from types import FrameType
from typing import Final

CHECK: Final = "--check"


def exit_on_signal() -> None:
    """Exit at once, with code 0, at SIGTERM or SIGINT from now on: nothing was begun that could be lost.

    A check is not a service, and one that was cut off has not succeeded: it dies of its signal.
    """
    if CHECK in sys.argv:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)


def _exit(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)
