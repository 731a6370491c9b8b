"""Turn of a step to time its model: of several steps at once, one times its model and the others yield.

    step: asks -> `_give_turn` of the process that started it waits for the lock -> the step times its model -> ends

The messages are single bytes over the standard input of the step, which is a socket then. A step that ends in any way
gives its turn back, because the kernel closes the socket. After its turn a step has only outputs to compute, and lowers
its priority for the step that times its model next.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from process.cpus import BEHIND_SERVICES, lower_session_priority

ASKED: Final = b"?"
GIVEN: Final = b"!"
ENDED: Final = b"."
_STANDARD_INPUT: Final = 0


@contextmanager
def timing_turn() -> Generator[None]:
    """Wait for the turn of this process, and end it with the context; blocks."""
    os.write(_STANDARD_INPUT, ASKED)
    os.read(_STANDARD_INPUT, 1)
    try:
        yield
    finally:
        os.write(_STANDARD_INPUT, ENDED)
        lower_session_priority(BEHIND_SERVICES)
