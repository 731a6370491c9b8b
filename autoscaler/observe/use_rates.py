"""How often each variant is used, in uses a second of which older ones count for less.

The window of the load is too short to tell what is asked for once a minute from what is asked for once an hour; when
not all fit into the memory, that is what decides on what stays.
"""

from collections.abc import Collection
from math import log
from typing import Final

HALF_LIFE_S: Final = 120.0
"""Seconds after which a use counts half."""


class UseRates:
    """Fading counts of uses, by variant. Times are monotonic seconds that do not run backwards."""

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self._half_life_s = half_life_s
        self._counts: dict[str, tuple[float, float]] = {}
        """What is left of the uses of each variant, and when that was so."""

    def add(self, variant: str, uses: int, now_s: float) -> None:
        """Take down that a variant was used so many times."""
        self._counts[variant] = self._count(variant, now_s) + uses, now_s

    def per_s(self, now_s: float) -> dict[str, float]:
        """Return the uses a second of each variant; what is used steadily comes to its rate."""
        mean_life_s = self._half_life_s / log(2)
        return {variant: self._count(variant, now_s) / mean_life_s for variant in self._counts}

    def forget(self, variants: Collection[str]) -> None:
        """Forget all but these."""
        self._counts = {variant: kept for variant, kept in self._counts.items() if variant in variants}

    def _count(self, variant: str, now_s: float) -> float:
        count, at_s = self._counts.get(variant, (0.0, now_s))
        return count * 0.5 ** ((now_s - at_s) / self._half_life_s)
