"""Protocol of a batch job's output: results in order, each exactly once, even if the job is killed and resumed."""

from typing import Protocol

import msgspec

from infaas.batch.rows import ChunkResult, SourcePosition


class BatchTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions of a batch job that must be the same for a run to resume an earlier one."""

    source: str
    """Fingerprint of the source."""
    task: str
    needs: dict[str, str | float | bool]
    """Needs of the answers."""
    target: str | None = None
    """Variant or architecture that computes all rows; None: the cheapest idle variant for each query."""
    chunk_rows: int
    """Number of rows of a chunk."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a batch job."""

    position: SourcePosition | None = None
    """Position of the source; None: the start."""
    answered: int = 0
    failed: int = 0
    cost: float = 0.0
    """Cost so far in USD."""
    seconds: float = 0.0
    """Duration of all runs so far."""

    @property
    def rows(self) -> int:
        """Number of rows done."""
        return self.answered + self.failed

    def after(self, result: ChunkResult, seconds: float) -> "Progress":
        """Return the progress after a further chunk, with the new duration."""
        return Progress(
            position=result.end,
            answered=self.answered + result.size - len(result.failed),
            failed=self.failed + len(result.failed),
            cost=self.cost + result.cost,
            seconds=seconds,
        )


class ResultSink(Protocol):
    """Sink of results. Order of calls: `open`, any number of `write` and `commit`, `finish`; `close` in any case.

    Results count only once they are committed, atomically with the progress: a file sink uses a checkpoint, a topic
    sink a transaction. `open` discards results that an earlier run wrote after its last commit.
    """

    async def open(self, terms: BatchTerms) -> Progress | None:
        """Start or resume; returns the last committed progress, None if there is none.

        Raises:
            OperatorError: the existing output belongs to another job, or cannot be written.
        """
        ...

    async def write(self, result: ChunkResult) -> None:
        """Write the results of the next chunk atomically: a failed write leaves nothing to commit."""
        ...

    async def commit(self, progress: Progress) -> None:
        """Make the written results durable, together with `progress`."""
        ...

    async def finish(self, progress: Progress) -> None:
        """Commit and complete the output. The job cannot be resumed afterwards."""
        ...

    async def close(self) -> None:
        """Release the sink's resources, finished or not."""
        ...
