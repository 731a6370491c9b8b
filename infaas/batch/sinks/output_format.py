"""What an output file is made of: bytes for each chunk that are appended, and what becomes of all of them in the end.

Where the form of a file allows no appending (.npz, Parquet), the chunks are kept in a form that does, and the file is
made of them at the end, piece by piece.

Where outputs are columns beside those of ours, `row` and `id`, one that is called like these is `outputs.row` or
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
"""Column of the rows' numbers."""
ID: Final = "id"
"""Column of what rows are called."""


class OutputFormat(ABC):
    """One form of an output."""

    def resume(self, appended: Path) -> None:  # noqa: B027 - most need nothing for that
        """Go on behind what was appended before, if anything."""

    @abstractmethod
    def encode(self, result: ChunkResult) -> bytes:
        """The bytes of the rows that were answered."""

    def complete(self, appended: Path, whole: Path) -> Path:
        """Make the output of all that was appended: that itself, or the file `whole`. Returns which."""
        return appended


def in_one(result: ChunkResult) -> OutputRows | None:
    """All rows of a chunk that were answered, together and by their numbers, outputs by their columns; None: no row.

    Raises:
        OperatorError: their outputs are not of one shape.
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
    """BYTES as texts, all else as it is; what is not UTF-8 in it is replaced by a mark."""
    if array.dtype != BYTES:
        return array
    texts = np.empty(array.shape, object)
    texts.reshape(-1)[:] = [item.decode(errors="replace") for item in array.reshape(-1).tolist()]
    return texts
