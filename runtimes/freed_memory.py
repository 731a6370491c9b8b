"""Memory that computing a batch frees: kept for the next batch, where nothing else keeps it.

glibc gives large blocks back to the system as soon as they are freed, and when the next batch takes them again the
system maps and clears each page anew. Runtimes with allocators of their own do not go that way; torch does, for each
tensor on its way through a program: a third of the time of a large batch.
"""

import ctypes
from typing import Final

_KEEP: Final = {-1: 1 << 30, -2: 64 << 20, -3: 32 << 20}
"""Parameters of `mallopt` by their numbers in `malloc.h`: what may be free at the end of a heap before it is cut off
(`M_TRIM_THRESHOLD`), what a heap grows by beyond need and keeps at its end (`M_TOP_PAD`; that of a thread has 64 MiB),
and from which size on a block is mapped by itself (`M_MMAP_THRESHOLD`; 32 MiB is the most)."""


def keep_freed_memory() -> None:
    """Have this process keep what it frees until `process.memory.trim_memory`.

    Elsewhere than on glibc it does nothing.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is not None:
        for number, value in _KEEP.items():
            set_parameter(number, value)
