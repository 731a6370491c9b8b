"""Prediction of when a worker's slots become free. Workers and selectors must use the same rule."""

from collections.abc import Sequence


def after_batch(free: Sequence[float], seconds: float, width: int, now: float = 0.0) -> list[float]:
    """Return the time at which each slot is free after a batch of `seconds` in the `width` slots that are free first.

    The batch begins when all of these are free, and not before `now`. `free` and the result contain one time per slot,
    in ascending order.
    """
    width = min(width, len(free))
    ends = max(free[width - 1], now) + seconds
    return sorted([*free[width:], *[ends] * width])
