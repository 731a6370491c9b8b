"""Keeps threads on some of the machine's cores, so that what they compute has those for itself."""

import os
from collections.abc import Collection


def pin_thread(cpus: Collection[int]) -> None:
    """Keep the calling thread, and those it starts from now on, on these cores; on any if none is named. Linux only."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)
