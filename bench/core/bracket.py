"""Search for the highest rate that a server sustains, as a pure function of the rates tried so far.

While all rates are sustained, the rate grows by a factor. After the first miss, the range between the highest sustained
and the lowest missed rate is halved geometrically, until its ends are close. The upper end is then tried once more,
because its miss may have been an accident; if it is sustained, the search continues from there.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

GROWTH: Final = 1.35
"""Factor of the next rate while all rates were sustained."""
SHRINKAGE: Final = 1.6
"""Divisor of the next rate while none was sustained."""
PRECISION: Final = 1.08
"""Ratio of the bracket's ends at which the search ends."""
_ROUNDING: Final = 1e-9
LOWEST: Final = 1.0
"""Queries per second below which the search gives up."""


class RateBracket(msgspec.Struct, frozen=True):
    """Range of rates that contains the limit."""

    held: float = 0.0
    """Highest sustained rate; 0: none yet."""
    missed: float = 0.0
    """Lowest missed rate above it; 0: none yet."""
    missed_again: bool = False
    """True if `missed` was missed again at the end."""


async def find_goodput(first: float, sustains: Callable[[float], Awaitable[bool]], *, near: bool = False) -> float:
    """Return the highest rate that is sustained; 0 if there is none.

    Args:
        first: rate with which the search begins.
        sustains: tries a rate.
        near: the first rate is about the result, so the search begins with small steps.
    """
    bracket = RateBracket()
    while (rate := next_rate(bracket, first, near=near)) is not None:
        bracket = narrowed(bracket, rate, held=await sustains(rate))
    return bracket.held


def narrowed(bracket: RateBracket, rate: float, *, held: bool) -> RateBracket:
    """Return the bracket after one more try at a rate within it."""
    if rate == bracket.missed:
        return RateBracket(held=rate) if held else RateBracket(bracket.held, rate, missed_again=True)
    return RateBracket(rate, bracket.missed) if held else RateBracket(bracket.held, rate)


def next_rate(bracket: RateBracket, first: float, *, near: bool = False) -> float | None:
    """Return the rate to try next, beginning with `first`; None if the limit is known well enough."""
    growth, shrinkage = (PRECISION, PRECISION) if near else (GROWTH, SHRINKAGE)
    if not bracket.held and not bracket.missed:
        return first
    if not bracket.missed:
        return bracket.held * growth
    if not bracket.held:
        below = bracket.missed / shrinkage
        return below if below >= LOWEST else None
    if bracket.missed / bracket.held <= PRECISION + _ROUNDING:
        return None if bracket.missed_again else bracket.missed
    return (bracket.held * bracket.missed) ** 0.5
