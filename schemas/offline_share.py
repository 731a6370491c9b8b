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
_CORES: Final = 0.5
"""Cores that offline queries take at their usual pace while online queries come."""
_QUERY_S: Final = 1e-3
"""CPU seconds that a query takes besides its computation, in all processes together."""


def offline_share(cpu_busy: float) -> float:
    """Return the share of the usual pace, from `LEAST` to 1, at this share of the machine's CPU time in use."""
    return min(1.0, max(LEAST, (SCARCE - cpu_busy) / (SCARCE - SPARE)))


def offline_pause_s(queries: int, compute_s: float, share: float) -> float:
    """Return the seconds until more offline queries may be read, at this share of the usual pace.

    Args:
        queries: number of queries that were read.
        compute_s: seconds that their computation takes.
        share: share of the usual pace, above 0.
    """
    return (compute_s + queries * _QUERY_S) / (_CORES * share)
