"""CSV with a line of names: a row a record, a column for each input, or for each element of it.

An input of one element is the column of its name; the elements of a longer one are the columns `name.0`, `name.1`, ...,
row-major. A column `id` that is no input is what the row is called. Other columns are passed over. Texts are UTF-8.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from infaas.batch.rows import Chunk, Marks
from infaas.batch.sources.chunking import ReadRow, in_chunks, size_of
from infaas.batch.sources.jsonl import ID
from infaas.batch.sources.row_file import RowFile, count_lines
from infaas.batch.sources.row_shape import row_shape
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array, bytes_array, dtype_of

_LONGEST_CELL: Final = 16 << 20
_TRUTH: Final = {"true": True, "1": True, "false": False, "0": False}
_BOM: Final = b"\xef\xbb\xbf"


class CsvTable(RowFile):
    """Rows of a CSV file. `total` counts lines, so it is more than there are where texts hold line ends."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        csv.field_size_limit(_LONGEST_CELL)
        with path.open("rb") as file:
            lines = _Lines(file)
            header = next(csv.reader(lines), [])
        self._start = lines.offset
        self._columns = [_columns(spec, header, path) for spec in self.inputs]
        is_input = any(spec.name == ID for spec in self.inputs)
        self._id = header.index(ID) if ID in header and not is_input else None
        self._width = len(header)
        self.total = max(count_lines(path) - 1, 0)

    def row_bytes(self) -> float:
        """See `RowFile.row_bytes`."""
        return self.path.stat().st_size / max(self.total or 0, 1)

    def read(self, begin: Marks, size: int) -> Iterator[Chunk]:
        """See `RowFile.read`."""
        with self.path.open("rb") as file:
            lines = _Lines(file, int(begin.get("byte", self._start)))
            yield from in_chunks(self._rows(lines, int(begin.get("row", 0))), size)

    def _rows(self, lines: "_Lines", number: int) -> Iterator[ReadRow]:
        records = csv.reader(lines)
        while True:
            try:
                cells = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                raise OperatorError(f"{self.path}: row {number} cannot be read: {error}") from error
            if not cells:
                continue
            yield self._row(number, cells, {"row": number + 1, "byte": lines.offset})
            number += 1

    def _row(self, number: int, cells: Sequence[str], end: Marks) -> ReadRow:
        if len(cells) != self._width:
            error = InvalidRequest(f"it has {len(cells)} cells, the first line has {self._width}")
            return ReadRow(number, error, 0, end)
        row_id = None if self._id is None else cells[self._id]
        try:
            inputs: Mapping[str, Array] = {columns.spec.name: columns.array(cells) for columns in self._columns}
        except InvalidRequest as error:
            return ReadRow(number, error, 0, end, row_id)
        return ReadRow(number, inputs, size_of(inputs), end, row_id)


class _Lines:
    """Lines of a file as texts, and how many bytes of it they were: what the reader has taken ends a record."""

    def __init__(self, file: BinaryIO, offset: int = 0) -> None:
        self._file = file
        self.offset = offset
        file.seek(offset)

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline():
            text = line.removeprefix(_BOM) if self.offset == 0 else line
            self.offset += len(line)
            yield text.decode("utf-8", "surrogateescape")


class _InputColumns(NamedTuple):
    """Where the elements of an input are in a record."""

    spec: TensorSpec
    indices: list[int]
    shape: tuple[int, ...]

    def array(self, cells: Sequence[str]) -> Array:
        """Return the input of a row, with a first axis of one row."""
        spec, texts = self.spec, [cells[index] for index in self.indices]
        if spec.datatype == "BYTES":
            return bytes_array([text.encode("utf-8", "surrogateescape") for text in texts]).reshape(self.shape)
        try:
            if spec.datatype == "BOOL":
                return np.array([_TRUTH[text.strip().lower()] for text in texts]).reshape(self.shape)
            return np.array(texts, dtype_of(spec.datatype, spec.name)).reshape(self.shape)
        except (ValueError, OverflowError, KeyError) as error:
            raise InvalidRequest(f"{spec.name}: no {spec.datatype}: {error}") from None


def _columns(spec: TensorSpec, header: Sequence[str], path: Path) -> _InputColumns:
    if spec.name in header:
        indices = [header.index(spec.name)]
    else:
        names = itertools.takewhile(header.__contains__, (f"{spec.name}.{number}" for number in itertools.count()))
        indices = [header.index(name) for name in names]
    try:
        shape = row_shape([len(indices)], spec) if indices else None
    except InvalidRequest:
        shape = None
    if shape is None:
        raise OperatorError(
            f"{path}: input {spec.name!r} of shape {list(spec.shape[1:])} needs a column of that name, or for each "
            f"element one: {spec.name}.0, {spec.name}.1 and so on; there are {len(indices)}"
        )
    return _InputColumns(spec, indices, (1, *shape))
