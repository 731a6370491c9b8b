"""Gives memory that this process does not use any more back to the system."""

import ctypes


def trim_memory() -> None:
    """Let the system have what was freed: glibc keeps it otherwise, and unloading a model would free nothing.

    Blocks for some milliseconds. Elsewhere than on glibc it does nothing.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
