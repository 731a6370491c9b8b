"""Slot backlogs of a worker: when each slot will have computed the waiting batches. Pure.

Selectors send to several variants of a worker at once, so they need a time per slot. The mean is too little: with two
batches under way in two slots, a third one can begin when the shorter one ends; with four, it waits for two of them.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from schemas.slots import after_batch

_MOST_ROUNDS: Final = 4
"""Batches per slot that are simulated one by one; more are merged into larger ones, as their exact order matters less.
"""


class WaitingBatches(NamedTuple):
    """Batches of one instance that have not begun."""

    seconds: float
    """Predicted seconds of each batch."""
    number: int
    width: int
    """Slots that each batch takes."""


def slot_backlogs_s(left_s: Sequence[float], waiting: Iterable[WaitingBatches]) -> tuple[float, ...]:
    """Return the seconds until each slot is free, soonest first.

    Args:
        left_s: seconds left of each slot's current batch; 0 for a free slot.
        waiting: batches that begin in this order as soon as there are slots.
    """
    slots = sorted(left_s)
    for batches in waiting:
        rounds = min(batches.number, _MOST_ROUNDS * len(slots))
        for _ in range(rounds):
            slots = after_batch(slots, batches.seconds * batches.number / rounds, batches.width)
    return tuple(slots)
