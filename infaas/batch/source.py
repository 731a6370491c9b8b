"""Protocol of a batch job's input: numbered rows that can be read from any committed position."""

from collections.abc import AsyncGenerator
from typing import Protocol

from infaas.batch.rows import Chunk, SourcePosition


class RowSource(Protocol):
    """Source of rows. It holds at most one chunk besides the rows already handed out."""

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    @property
    def total(self) -> int | None:
        """Number of all rows; None if it is unknown before the end."""
        ...

    def fingerprint(self) -> str:
        """Return a text that changes with the rows, so that a job is not resumed with other rows."""
        ...

    def chunks(self, begin: SourcePosition | None, size: int) -> AsyncGenerator[Chunk]:
        """Yield chunks of at most `size` rows from `begin`, the `end` of an earlier chunk; None: from the start.

        The same rows must form the same chunks from any position: the rows of a chunk are computed together, and
        batching may change the last bit of an answer. So all chunks of a file have `size` rows, except the last.

        Raises:
            OperatorError: the source cannot be read; the message suggests a remedy.
        """
        ...
