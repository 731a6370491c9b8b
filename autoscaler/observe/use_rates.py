"""Rate of use of each variant, with exponential decay.

The load window is too short to distinguish one use a minute from one an hour. That difference decides which instances
stay when memory is short.
"""

from collections.abc import Collection
from math import log
from typing import Final

HALF_LIFE_S: Final = 120.0
"""Seconds after which a use counts half."""


class UseRates:
    """Exponentially decaying counts of uses, by variant. Times are monotonic seconds and must not decrease."""

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self._half_life_s = half_life_s
        self._counts: dict[str, tuple[float, float]] = {}
        """The remaining count of each variant, and the time of its last update."""

    def add(self, variant: str, uses: int, now_s: float) -> None:
        """Count uses of a variant."""
        self._counts[variant] = self._count(variant, now_s) + uses, now_s

    def per_s(self, now_s: float) -> dict[str, float]:
        """Return the uses a second of each variant; a steady rate converges to itself."""
        mean_life_s = self._half_life_s / log(2)
        return {variant: self._count(variant, now_s) / mean_life_s for variant in self._counts}

    def forget(self, variants: Collection[str]) -> None:
        """Drop all other variants."""
        self._counts = {variant: kept for variant, kept in self._counts.items() if variant in variants}

    def _count(self, variant: str, now_s: float) -> float:
        count, at_s = self._counts.get(variant, (0.0, now_s))
        return count * 0.5 ** ((now_s - at_s) / self._half_life_s)
