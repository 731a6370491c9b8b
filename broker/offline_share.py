"""Share of its usual pace that offline work keeps while online queries come: pure.

An offline query costs CPU time in every process that it passes: selector, broker and worker. On a machine whose CPUs
are all in use, that time is taken from online queries, at each hop, even when no slot of a worker computes offline
work. So offline work slows down before the CPUs are full. It never stops: its topics would grow without limit.
"""

from typing import Final

SPARE: Final = 0.75
"""Share of CPU time in use up to which offline work keeps its usual pace."""
SCARCE: Final = 0.95
"""Share of CPU time in use from which on it has `LEAST`."""
LEAST: Final = 0.05
"""Smallest share of the usual pace."""


def offline_share(cpu_busy: float) -> float:
    """Return the share of the usual pace, from `LEAST` to 1, at this share of the machine's CPU time in use."""
    return min(1.0, max(LEAST, (SCARCE - cpu_busy) / (SCARCE - SPARE)))
