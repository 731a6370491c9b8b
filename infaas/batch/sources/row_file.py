"""Abstract base class of input files. The event loop runs other tasks between two chunks."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Final

from infaas.batch.rows import Chunk, SourcePosition
from schemas.errors import OperatorError
from schemas.rows.catalog import TensorSpec

_BLOCK: Final = 1 << 20


class RowFile(ABC):
    """Rows of a file or a folder, as inputs of a task; see `RowSource`."""

    total: int | None = None
    """Number of rows, exact or approximate."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        self.path = path
        self.inputs = tuple(inputs)
        self.name = str(path)

    def fingerprint(self) -> str:
        """Return the path, size and modification time of the file."""
        stat = self.path.stat()
        return f"{self.path.absolute()}, {stat.st_size} bytes, changed {stat.st_mtime_ns}"

    async def chunks(self, begin: SourcePosition | None, size: int) -> AsyncGenerator[Chunk]:
        """See `RowSource.chunks`."""
        try:
            for chunk in self.read(begin or {}, size):
                yield chunk
                await asyncio.sleep(0)
        except OSError as error:
            raise OperatorError(f"cannot read {self.path}: {error.strerror or error}") from error

    @abstractmethod
    def read(self, begin: SourcePosition, size: int) -> Iterator[Chunk]:
        """Yield chunks from `begin`; empty: from the start."""

    @abstractmethod
    def row_bytes(self) -> float:
        """Return the approximate size of an encoded row in bytes."""


def count_lines(path: Path) -> int:
    """Count the lines of a file; an empty last line does not count."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")
