"""Abstract format of an output file: encoding of a chunk, and completion of the file at the end.

Formats that cannot be appended to (.npz, Parquet) append chunks in an intermediate form, and write the output file from
it at the end, piece by piece.

If outputs are columns next to the columns `row` and `id`, an output with one of these names becomes `outputs.row` or
`outputs.id`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec.structs import replace

from infaas.batch.rows import ChunkResult, OutputRows
from schemas.errors import OperatorError
from schemas.tensors import BYTES, Array

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


def as_texts(array: Array) -> Array:
    """Return BYTES as texts, with U+FFFD for invalid UTF-8, and other arrays unchanged."""
    if array.dtype != BYTES:
        return array
    texts = np.empty(array.shape, object)
    texts.reshape(-1)[:] = [item.decode(errors="replace") for item in array.reshape(-1).tolist()]
    return texts
