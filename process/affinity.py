"""CPU affinity: pins threads to cores, so that other threads cannot take those cores."""

import os
from collections.abc import Collection


def pin_thread(cpus: Collection[int]) -> None:
    """Pin the calling thread, and threads it starts later, to `cpus`; do nothing if `cpus` is empty. Linux only."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
