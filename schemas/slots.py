"""The slots of a worker and when each is free: the one rule by which a worker and selectors reckon."""

from collections.abc import Sequence


def after_batch(free: Sequence[float], seconds: float, width: int, now: float = 0.0) -> list[float]:
    """When each slot is free once a batch of `seconds` has been computed in the `width` that are free first.

    It begins when all of these are, and not before `now`. `free` and the result: a time for each slot, soonest first.
    """
    width = min(width, len(free))
    ends = max(free[width - 1], now) + seconds
    return sorted([*free[width:], *[ends] * width])
