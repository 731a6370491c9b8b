"""How often Python looks for cycles of garbage, in a process with thousands of queries in flight.

Objects of a query live until it is acknowledged. By default the collector runs at each 700 new objects, so it visits
the same living ones again and again; now and then it visits all that was imported and loaded at start as well. Measured
in the selector: a quarter of its CPU time. Reference counting, which frees nearly everything, is not touched.
"""

import gc
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

_YOUNG: Final = 10_000
"""A collection of so many stops the process for some 15 ms."""


def tune_gc() -> None:
    """Have what is there now never visited again, and new objects less often; call it once, when all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)


@contextmanager
def no_collection() -> Generator[None]:
    """Leave cycles of garbage where they are while the context is open, but those from before."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
