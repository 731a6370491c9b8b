"""What a batch job reads from: numbered rows, from wherever it came to before."""

from collections.abc import AsyncGenerator
from typing import Protocol

from infaas.batch.rows import Chunk, Marks


class RowSource(Protocol):
    """A source of rows. It holds no more of them than it has handed out, and a chunk more."""

    @property
    def name(self) -> str:
        """What it is called for people."""
        ...

    @property
    def total(self) -> int | None:
        """Number of all rows; None where nobody can know before the end."""
        ...

    def fingerprint(self) -> str:
        """Something that changes when the rows do: whoever goes on with other rows would mix two jobs."""
        ...

    def chunks(self, begin: Marks | None, size: int) -> AsyncGenerator[Chunk]:
        """Read rows, at most `size` in a chunk, from `begin` on, the `end` of a chunk before; None: from the start.

        The same rows make the same chunks from wherever it begins: a chunk is computed together, and what is computed
        together may decide about the last bit of an answer. So a file's chunks are all of `size` rows, but the last.

        Raises:
            OperatorError: it cannot be read; the message says what to do.
        """
        ...
