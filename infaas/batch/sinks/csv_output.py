"""CSV output: a header line, then one line per row with `row`, optionally `id`, and one column per output element.

An output of one element per row is one column with its name. A longer one has columns `name.0`, `name.1`, ..., as
`CsvTable` reads them.
"""

import csv
import io
from pathlib import Path

import numpy as np

from infaas.batch.rows import ChunkResult
from infaas.batch.sinks.output_format import ID, ROW, OutputFormat, as_texts, in_one
from schemas.errors import OperatorError
from schemas.tensors import BF16, Array, float32_of


class CsvOutput(OutputFormat):
    """Writer of CSV."""

    def __init__(self) -> None:
        self._header: list[str] = []

    def resume(self, appended: Path) -> None:
        """See `OutputFormat.resume`."""
        with appended.open(newline="") as file:
            self._header = next(csv.reader(file), [])

    def encode(self, result: ChunkResult) -> bytes:
        """See `OutputFormat.encode`."""
        rows = in_one(result)
        if rows is None:
            return b""
        names, columns = [ROW], [rows.numbers.tolist()]
        if rows.ids or self._header[1:2] == [ID]:
            names.append(ID)
            columns.append(list(rows.ids) or [None] * len(rows))
        for name, array in rows.outputs.items():
            flat = _texts(array)
            names += [name] if flat.shape[1] == 1 else [f"{name}.{number}" for number in range(flat.shape[1])]
            columns += flat.T.tolist()
        return self._written(names, columns).encode()

    def _written(self, names: list[str], columns: list[list[object]]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._header:
            self._header = names
            writer.writerow(names)
        if names != self._header:
            raise OperatorError(
                f"row {columns[0][0]} has other outputs than earlier rows ({len(names)} columns, not "
                f"{len(self._header)}); write to a .jsonl file"
            )
        writer.writerows(zip(*columns, strict=True))
        return text.getvalue()


def _texts(array: Array) -> Array:
    """Return the elements of each row as texts; numbers in the fewest digits that identify them."""
    array = as_texts(float32_of(array) if array.dtype == BF16 else array)
    flat = array.reshape(len(array), -1)
    return flat if flat.dtype == object else flat.astype(np.str_)
