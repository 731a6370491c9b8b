"""Histograms of answer times: numbers of answers by bucket, which add up over workers, instances and seconds.

A bucket is an eighth of an octave, so a quantile is at most 4.5 % off, whatever the time. Pure.
"""

from bisect import bisect
from collections.abc import Mapping
from typing import Final

_STEPS: Final = 8
"""Buckets an octave."""
_EDGES_S: Final = [0.001 * 2 ** (step / _STEPS) for step in range(23 * _STEPS)]
"""Lower edges of the buckets but for the first. The last bucket holds all times beyond two hours."""


def time_bucket(seconds: float) -> int:
    """Return the bucket of an answer time: 0 below 1 ms, then eight buckets an octave. Hot path."""
    return bisect(_EDGES_S, seconds)


def quantile_s(counts: Mapping[int, int], share: float) -> float | None:
    """Return the seconds that `share` of the answers, 0..1, did not exceed; None: there was no answer.

    It is the geometric middle of its bucket.
    """
    left = share * sum(counts.values())
    for bucket, count in sorted(counts.items()):
        left -= count
        if count and left <= 0:
            return 0.001 * 2 ** ((bucket - 0.5) / _STEPS)
    return None
