"""Price of a query on a variant: pure arithmetic, so that a promised price can be recomputed.

An online query is charged for a slot during its own latency, as if it ran alone, because the price must not depend on
other queries. An offline query waits for full batches, so it is charged for its share of one.
"""

from typing import Final

from schemas.hardware import cost_per_1000
from schemas.latency import LatencyModel

EXACT_SIZE: Final = 32
"""Number of inputs up to which each size has a price of its own."""
_STEPS_AN_OCTAVE: Final = 8


def online_cost(model: LatencyModel, size: int, slot_price_per_hour: float) -> float:
    """Return the USD per 1000 queries of `size` inputs that run alone."""
    return cost_per_1000(model.batch_s(size), slot_price_per_hour)


def offline_cost(model: LatencyModel, size: int, slot_price_per_hour: float) -> float:
    """Return the USD per 1000 queries of `size` inputs that run in full batches."""
    return cost_per_1000(model.input_s() * size, slot_price_per_hour)


def size_class(batch: int) -> int:
    """Return the size at which `batch` inputs are priced: itself up to 32, then the next of 8 steps per power of two.

    This bounds the number of prices, and of cached classes, to 120 sizes for up to 65,536 inputs.
    """
    if batch <= EXACT_SIZE:
        return batch
    step = (1 << (batch - 1).bit_length() - 1) // _STEPS_AN_OCTAVE
    return -(-batch // step) * step


def smallest_of(size: int) -> int:
    """Return the least number of inputs that is priced as `size`."""
    if size <= EXACT_SIZE:
        return size
    return size - (1 << (size - 1).bit_length() - 1) // _STEPS_AN_OCTAVE + 1
