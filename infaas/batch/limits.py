"""Limits of a batch job and their checks. Pure: time and progress are arguments.

A chunk is admitted before it is queried. Rows in flight count at the average price of the rows done, so that the
expected cost of the job stays within its maximum.
"""

from typing import Final

import msgspec

from infaas.batch.rows import ChunkResult
from infaas.batch.sink import Progress
from schemas.errors import OperatorError

IN_FLIGHT: Final = 32
"""Default number of chunks in flight."""
_HOPELESS_ROWS: Final = 100
_AGAIN: Final = "finished rows are kept; run the same command to resume"


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a batch job."""

    deadline_s: float | None = None
    """Maximum duration of this run, in seconds."""
    max_cost: float | None = None
    """Maximum cost of all runs of the job together, in USD."""
    row_cost: float = 0.0
    """Expected cost of a row in USD, used until rows have been paid for."""
    max_failed: int | None = None
    """Maximum number of failed rows."""
    in_flight: int = IN_FLIGHT
    """Number of chunks in flight."""


class BatchBudget:
    """Remaining budget of a batch job."""

    def __init__(self, limits: BatchLimits, progress: Progress) -> None:
        self._limits = limits
        self._progress = progress
        self._asked = progress.rows

    def admit(self, rows: int, elapsed_s: float) -> None:
        """Admit a chunk of `rows` rows before it is queried.

        Raises:
            OperatorError: the chunk would exceed the maximum cost, or the deadline has passed.
        """
        limits, done = self._limits, self._progress
        self.check_time(elapsed_s)
        row_cost = done.cost / done.rows if done.cost else limits.row_cost
        expected = done.cost + (self._asked + rows - done.rows) * row_cost
        if limits.max_cost is not None and expected > limits.max_cost:
            raise OperatorError(
                f"the batch job would cost more than the {limits.max_cost:g} USD of --max-cost: {done.rows} rows have "
                f"cost {done.cost:.4g}; {_AGAIN} with a higher limit"
            )
        self._asked += rows

    def check_time(self, elapsed_s: float) -> None:
        """Raise OperatorError if the deadline has passed."""
        deadline_s = self._limits.deadline_s
        if deadline_s is not None and elapsed_s >= deadline_s:
            raise OperatorError(
                f"the {deadline_s:.0f} s until --deadline are over after {self._progress.rows} rows; {_AGAIN}"
            )

    def take(self, progress: Progress, result: ChunkResult) -> None:
        """Count a finished chunk.

        Raises:
            OperatorError: too many rows have failed, or the first 100 rows have all failed.
        """
        self._progress = progress
        failed, most = progress.failed, self._limits.max_failed
        if not progress.answered and failed >= _HOPELESS_ROWS:
            reason = result.failed[-1].reason if result.failed else "see the failed rows"
            raise OperatorError(f"the first {failed} rows have all failed: {reason}")
        if most is not None and failed > most:
            raise OperatorError(f"{failed} rows have failed, more than the {most} of --max-failed; {_AGAIN}")
