"""Abstract input and output of a file format.

`RowFile` reads rows. `OutputFormat` encodes chunks of results, and completes the file at the end: formats that cannot
be appended to (.npz, Parquet) append chunks in an intermediate form, and write the output file from it in pieces.

If outputs are columns next to the columns `row` and `id`, an output with one of these names becomes `outputs.row` or
`outputs.id`.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec.structs import replace

from infaas.batch.rows import Chunk, ChunkResult, OutputRows, SourcePosition
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import BF16, BYTES, Array, float32_of

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

    def row_bytes(self) -> float:
        """Return the approximate size of an encoded row in bytes."""
        return self.path.stat().st_size / max(self.total or 0, 1)


def count_lines(path: Path) -> int:
    """Count the lines of a file; an empty last line does not count."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")


def row_shape(found: Sequence[int], spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of a row of `spec` (without the row axis) for a value of shape `found`.

    Dynamic axes (-1) take their lengths from `found`.

    Raises:
        InvalidRequest: neither the shape nor the number of elements fits.
    """
    wanted = spec.shape[1:]
    if len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True)):
        return tuple(found)
    elements = math.prod(found)
    known = math.prod(length for length in wanted if length >= 0)
    open_axes = sum(length < 0 for length in wanted)
    rest = elements // known if known else 0
    if len(found) <= 1 or not open_axes:
        if open_axes <= 1 and rest * known == elements and (open_axes or rest == 1):
            return tuple(rest if length < 0 else length for length in wanted)
        if elements == 1:
            return tuple(1 for _ in wanted)
    raise InvalidRequest(f"{spec.name}: a row has the shape {list(found)}; the task takes {list(wanted)}")


ROW: Final = "row"
"""Column of the row numbers."""
ID: Final = "id"
"""Column of the row ids."""


class OutputFormat(ABC):
    """Format of an output file."""

    def resume(self, appended: Path) -> None:  # noqa: B027 - most formats need not do anything
        """Prepare to append after the results in `appended`."""

    @abstractmethod
    def encode(self, result: ChunkResult) -> bytes:
        """Return the answered rows of a chunk as bytes to append."""

    def complete(self, appended: Path, whole: Path) -> Path:
        """Complete the output after the last chunk; returns its path, `appended` or `whole`."""
        return appended


def in_one(result: ChunkResult) -> OutputRows | None:
    """Return all answered rows of a chunk in order, with outputs renamed to their columns; None if there are none.

    Raises:
        OperatorError: the outputs differ in shape.
    """
    rows = _joined(result.answered)
    if rows is None or not {ROW, ID} & rows.outputs.keys():
        return rows
    return replace(rows, outputs={_column(name, rows.outputs): array for name, array in rows.outputs.items()})


def _column(output: str, outputs: Mapping[str, Array]) -> str:
    column = output
    while column in (ROW, ID) or (column != output and column in outputs):
        column = f"outputs.{column}"
    return column


def _joined(parts: Sequence[OutputRows]) -> OutputRows | None:
    if len(parts) <= 1:
        return parts[0] if parts else None
    numbers = np.concatenate([part.numbers for part in parts])
    order = np.argsort(numbers, kind="stable")
    try:
        outputs = {name: np.concatenate([part.outputs[name] for part in parts])[order] for name in parts[0].outputs}
    except (ValueError, KeyError):
        raise OperatorError(
            f"rows {numbers.min()} to {numbers.max()} have outputs of different shapes; write to a .jsonl file"
        ) from None
    if not any(part.ids for part in parts):
        return OutputRows(numbers[order], outputs)
    ids = [row_id for part in parts for row_id in part.ids or [None] * len(part)]
    return OutputRows(numbers[order], outputs, [ids[index] for index in order])


def as_plain(array: Array) -> Array:
    """Return BYTES as texts, with U+FFFD for invalid UTF-8, BF16 as FP32, and other arrays unchanged."""
    if array.dtype == BF16:
        return float32_of(array)
    if array.dtype != BYTES:
        return array
    texts = np.empty(array.shape, object)
    texts.reshape(-1)[:] = [item.decode(errors="replace") for item in array.reshape(-1).tolist()]
    return texts
