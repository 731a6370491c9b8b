"""Footprint of an instance in the slots of its worker. Pure."""

from typing import NamedTuple


class Footprint(NamedTuple):
    """Slots and concurrent batches of an instance."""

    width: int
    """Number of slots that one of its batches takes."""
    parallel: int
    """Number of its batches that may compute at once."""
    is_concurrent: bool
    """True if threads may share its session."""


def footprint_in(slots: int, taken: int, *, is_concurrent: bool) -> Footprint:
    """Return the footprint of an instance whose batches take `taken` slots (`schemas.hardware.slots_taken`).

    An instance that is too wide for the worker takes all of its slots. One that takes several slots computes one batch
    at a time: all batches of a session share its threads, so a second batch would get fewer cores than were measured.

    Args:
        slots: slots of the worker.
        taken: slots that its number of threads needs.
        is_concurrent: true if threads can share a session of the instance's runtime.
    """
    width = min(taken, slots)
    concurrent = width == 1 and is_concurrent
    return Footprint(width, slots if concurrent else 1, concurrent)
