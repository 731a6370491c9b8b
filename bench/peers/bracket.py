"""The search for the highest rate that a server still holds, as a pure function of what was tried so far.

A rate that is held moves the search up, by a factor until the first that is not; then the range between is halved, in
ratios, until its ends are close. The upper end is then tried once more, for it was missed in one moment: is it held,
the search goes on from there.
"""

from typing import Final

import msgspec

GROWTH: Final = 1.35
"""Factor of the next try while all rates were held."""
SHRINKAGE: Final = 1.6
"""Divisor of the next try while none was."""
PRECISION: Final = 1.08
"""Ratio of the bracket's ends at which the search is over."""
LOWEST: Final = 1.0
"""Rate below which it is given up, in queries a second."""


class RateBracket(msgspec.Struct, frozen=True):
    """Between which rates the limit lies."""

    held: float = 0.0
    """Highest rate that was held; 0: none yet."""
    missed: float = 0.0
    """Lowest rate above it that was not; 0: none yet."""
    missed_again: bool = False
    """Whether that was missed when the rest was known, too."""


def narrowed(bracket: RateBracket, rate: float, *, held: bool) -> RateBracket:
    """Return the bracket after one more try at a rate within it."""
    if rate == bracket.missed:
        return RateBracket(held=rate) if held else RateBracket(bracket.held, rate, missed_again=True)
    return RateBracket(rate, bracket.missed) if held else RateBracket(bracket.held, rate)


def next_rate(bracket: RateBracket, first: float) -> float | None:
    """Return the rate to try next, beginning with `first`; None when the limit is known well enough."""
    if not bracket.held and not bracket.missed:
        return first
    if not bracket.missed:
        return bracket.held * GROWTH
    if not bracket.held:
        below = bracket.missed / SHRINKAGE
        return below if below >= LOWEST else None
    if bracket.missed / bracket.held <= PRECISION:
        return None if bracket.missed_again else bracket.missed
    return (bracket.held * bracket.missed) ** 0.5
