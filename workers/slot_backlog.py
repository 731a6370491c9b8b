"""When the slots of a worker will have computed what there is, one after the other: pure.

Selectors send to several variants of a worker at once. A mean over the slots says too little to them: with two batches
under way in two slots one is free for a third when the shorter ends, with four it waits for two of them.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from schemas.slots import after_batch

_MOST_ROUNDS: Final = 4
"""Batches for each slot that are taken one by one; more make larger ones, for who waits behind so many counts them."""


class WaitingBatches(NamedTuple):
    """Batches of one instance that have not begun."""

    seconds: float
    """Predicted, of each."""
    number: int
    width: int
    """Slots that each takes."""


def slot_backlogs_s(left_s: Sequence[float], waiting: Iterable[WaitingBatches]) -> tuple[float, ...]:
    """Seconds until each slot is free, soonest first.

    Args:
        left_s: of what each slot computes now, seconds that are left; 0 of a free one.
        waiting: what begins as soon as there are slots for it, in this order.
    """
    slots = sorted(left_s)
    for batches in waiting:
        rounds = min(batches.number, _MOST_ROUNDS * len(slots))
        for _ in range(rounds):
            slots = after_batch(slots, batches.seconds * batches.number / rounds, batches.width)
    return tuple(slots)
