"""Freed memory: lets glibc keep the memory that a batch frees for the next batch.

glibc returns large blocks to the system as soon as they are freed. When the next batch allocates them again, the system
maps and clears each page. Runtimes with an allocator of their own avoid this. Torch does not: for a large batch it
costs a third of the time.
"""

import ctypes
from typing import Final

_KEEP: Final = {-1: 1 << 30, -2: 64 << 20, -3: 32 << 20}
"""Parameters of `mallopt` by their numbers in `malloc.h`: the free bytes at the end of a heap before it is trimmed
(`M_TRIM_THRESHOLD`), the extra bytes by which a heap grows (`M_TOP_PAD`; a thread's heap has 64 MiB), and the size from
which on a block is mapped separately (`M_MMAP_THRESHOLD`; at most 32 MiB)."""


def keep_freed_memory() -> None:
    """Let this process keep freed memory until `process.memory.trim_memory`.

    Does nothing without glibc.
    """
    set_parameter = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_parameter is not None:
        for number, value in _KEEP.items():
            set_parameter(number, value)
