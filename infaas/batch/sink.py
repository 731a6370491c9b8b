"""What a batch job writes to: results in their order, none missing and none twice, however often the job is killed."""

from typing import Protocol

import msgspec

from infaas.batch.rows import ChunkResult, Marks


class JobTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What must be the same for a job to go on with what an earlier run of it has written."""

    source: str
    """Fingerprint of what is read."""
    task: str
    needs: dict[str, str | float | bool]
    """What is asked of the answers."""
    target: str | None = None
    """The variant, or the architecture, that computes all of it; None: whichever is the cheapest that is idle."""
    chunk_rows: int
    """Rows of a chunk."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job has come."""

    position: Marks | None = None
    """Where the source goes on; None: at the start."""
    answered: int = 0
    failed: int = 0
    cost: float = 0.0
    """USD so far."""
    seconds: float = 0.0
    """Time that its runs have taken so far."""

    @property
    def rows(self) -> int:
        """Rows that are done."""
        return self.answered + self.failed

    def after(self, result: ChunkResult, seconds: float) -> "Progress":
        """Progress after a further chunk, and so many seconds."""
        return Progress(
            position=result.end,
            answered=self.answered + result.size - len(result.failed),
            failed=self.failed + len(result.failed),
            cost=self.cost + result.cost,
            seconds=seconds,
        )


class ResultSink(Protocol):
    """A sink of results: `open` -> (`write`, some `commit`) ... -> `finish`; `close` in any case.

    What is written counts only once it is committed together with the progress, in one step: a file's sink notes both
    in a checkpoint, a topic's in a transaction. What a run before has written beyond its last commit is gone after
    `open`.
    """

    async def open(self, terms: JobTerms) -> Progress | None:
        """Begin, or go on; returns what was committed last, None if nothing was.

        Raises:
            OperatorError: what is there is of another job, or cannot be written.
        """
        ...

    async def write(self, result: ChunkResult) -> None:
        """Write the next results, all or none: of a write that did not return nothing is committed."""
        ...

    async def commit(self, progress: Progress) -> None:
        """Make what was written durable, together with `progress`."""
        ...

    async def finish(self, progress: Progress) -> None:
        """Commit, and make the output whole: there is nothing to go on with any more."""
        ...

    async def close(self) -> None:
        """Let go of it, whether it is finished or not."""
        ...
