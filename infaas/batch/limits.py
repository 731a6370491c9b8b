"""What a batch job may take, and whether it may still go on: pure, the clock and the rows done are arguments.

A job is asked about each chunk before it is asked for, so that it never costs more than it may: what is asked already
counts as if it had come at the price of what has.
"""

from typing import Final

import msgspec

from infaas.batch.rows import ChunkResult
from infaas.batch.sink import Progress
from schemas.errors import OperatorError

IN_FLIGHT: Final = 32
"""Chunks that are held at once, unless somebody knows better."""
_HOPELESS_ROWS: Final = 100
_AGAIN: Final = "what is done is kept, and the same command goes on from there"


class JobLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a job may take."""

    deadline_s: float | None = None
    """Seconds from its start in which it must be done."""
    max_cost: float | None = None
    """USD of all its runs together."""
    row_cost: float = 0.0
    """USD that a row costs, as far as that is known beforehand."""
    max_failed: int | None = None
    """Failed rows with which it is still worth going on."""
    in_flight: int = IN_FLIGHT
    """Chunks that are held at once."""


class JobBudget:
    """What is left to a job."""

    def __init__(self, limits: JobLimits, progress: Progress) -> None:
        self._limits = limits
        self._progress = progress
        self._asked = progress.rows

    def admit(self, rows: int, elapsed_s: float) -> None:
        """Count so many rows as asked.

        Raises:
            OperatorError: they would cost more than is left, or the time is over.
        """
        limits, done = self._limits, self._progress
        self.check_time(elapsed_s)
        row_cost = done.cost / done.rows if done.cost else limits.row_cost
        expected = done.cost + (self._asked + rows - done.rows) * row_cost
        if limits.max_cost is not None and expected > limits.max_cost:
            raise OperatorError(
                f"the job would cost more than the {limits.max_cost:g} USD of --max-cost: {done.rows} rows have cost "
                f"{done.cost:.4g}; {_AGAIN} with a higher one"
            )
        self._asked += rows

    def check_time(self, elapsed_s: float) -> None:
        """Raise `OperatorError` if the time is over."""
        deadline_s = self._limits.deadline_s
        if deadline_s is not None and elapsed_s >= deadline_s:
            raise OperatorError(
                f"the {deadline_s:.0f} s until --deadline are over after {self._progress.rows} rows; {_AGAIN}"
            )

    def take(self, progress: Progress, result: ChunkResult) -> None:
        """Count a chunk as done.

        Raises:
            OperatorError: too many rows have failed, or all of them.
        """
        self._progress = progress
        failed, most = progress.failed, self._limits.max_failed
        if not progress.answered and failed >= _HOPELESS_ROWS:
            reason = result.failed[-1].reason if result.failed else "see the failed rows"
            raise OperatorError(f"the first {failed} rows have all failed: {reason}")
        if most is not None and failed > most:
            raise OperatorError(f"{failed} rows have failed, more than the {most} of --max-failed; {_AGAIN}")
