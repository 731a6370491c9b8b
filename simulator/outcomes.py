"""Outcome of each query, in columns."""

from array import array
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import RefusalReason

REASONS: Final = ("", *(reason.value for reason in RefusalReason))
"""Reasons of refusals by number; the first is none."""
_NUMBERS: Final = {reason: number for number, reason in enumerate(REASONS)}
NO_VARIANT: Final = -1


class QueryOutcome(IntEnum):
    """Outcome of a query."""

    WAITING = 0
    """The simulation ended before an answer."""
    ANSWERED = 1
    """Answered before its deadline, or without one."""
    LATE = 2
    """Answered after its deadline."""
    REFUSED = 3
    """Refused at once, by a gateway or a selector."""
    EXPIRED = 4
    """Its deadline passed while it waited; it was not computed."""
    FAILED = 5
    """Its variant cannot be loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryColumns:
    """Outcomes of all queries; each array has one row for each query of the trace."""

    outcome: NDArray[np.uint8]
    """`QueryOutcome`."""
    reason: NDArray[np.uint8]
    """Index into `REASONS`."""
    variant: NDArray[np.int32]
    """Index into the catalogue's variants; `NO_VARIANT`: none was chosen."""
    ended_s: NDArray[np.float64]
    """Time at which the client had the outcome; NaN: it waits."""
    cost: NDArray[np.float32]
    """Charged USD per 1000 such queries."""
    chosen_s: NDArray[np.float64]
    """Time of the choice."""
    predicted_s: NDArray[np.float32]
    """Predicted seconds from the choice to the result."""
    upgraded: NDArray[np.bool_]


class Outcomes:
    """Outcomes by the number of a query in its trace. Each query has at most one."""

    def __init__(self, queries: int) -> None:
        self._outcome = bytearray(queries)
        self._reason = bytearray(queries)
        self._variant = array("i", [NO_VARIANT]) * queries
        self._ended_s = array("d", [np.nan]) * queries
        self._cost = array("f", [0.0]) * queries
        self._predicted_s = array("f", [np.nan]) * queries
        self._chosen_s = array("d", [np.nan]) * queries
        self._upgraded = bytearray(queries)
        self.open = queries
        """Queries without an outcome."""
        self.repeated = 0
        """Outcomes of queries that had one already."""

    def chosen(
        self, number: int, variant: int, now: float, *, cost: float = 0.0, predicted_s: float = np.nan,
        upgraded: bool = False,
    ) -> None:  # fmt: skip
        """Record the choice of a variant, by its number, with the charged USD per 1000 queries."""
        self._variant[number] = variant
        self._cost[number] = cost
        self._chosen_s[number] = now
        self._predicted_s[number] = predicted_s
        self._upgraded[number] = upgraded

    def ended(self, number: int, outcome: QueryOutcome, now: float, reason: RefusalReason | None = None) -> None:
        """Record the outcome of a query that its client has at `now`."""
        if self._outcome[number]:
            self.repeated += 1
            return
        self.open -= 1
        self._outcome[number] = outcome
        self._ended_s[number] = now
        if reason is not None:
            self._reason[number] = _NUMBERS[reason.value]

    def columns(self, begin_s: float) -> QueryColumns:
        """Return all outcomes as arrays, with times from `begin_s` on."""
        return QueryColumns(
            outcome=np.frombuffer(self._outcome, dtype=np.uint8),
            reason=np.frombuffer(self._reason, dtype=np.uint8),
            variant=np.frombuffer(self._variant, dtype=np.int32),
            ended_s=np.frombuffer(self._ended_s, dtype=np.float64) - begin_s,
            cost=np.frombuffer(self._cost, dtype=np.float32),
            chosen_s=np.frombuffer(self._chosen_s, dtype=np.float64) - begin_s,
            predicted_s=np.frombuffer(self._predicted_s, dtype=np.float32),
            upgraded=np.frombuffer(self._upgraded, dtype=np.bool_),
        )
