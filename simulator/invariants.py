"""Invariants of a simulation, checked in every run.

    1  Each query has at most one outcome.
    2  Queries in = answered + late + refused + expired + failed + waiting; a waiting query is in a log, at an
       instance, at a selector, or on its way.
    3  A slot computes one batch at a time: batches under way take at most the slots of their worker.
    4  An instance computes at most `parallel` batches at once.
    5  A batch holds at most the largest batch of its instance, unless it is a single query or piece.
    6  A partition has at most one owner, and only its owner answers its queries; an owner that died answers nothing.
    7  The lag of a partition is never negative.
    8  Instances on a worker fit into its memory.
    9  Time never goes back: an outcome is not before its query's arrival.
    10 The fleet costs the sum over its workers of price times time from start to end.

1, 2, 7, 9 and 10 are checked at the end, the others with each event that could break them.
"""

from typing import NoReturn

from schemas.errors import InfaasError


class InvariantError(InfaasError):
    """A simulation has broken an invariant: a defect of the simulator, or of the code that it runs."""


def broken(number: int, fact: str) -> NoReturn:
    """Raise the error for a broken invariant."""
    raise InvariantError(f"invariant {number} of the simulation is broken: {fact}")
