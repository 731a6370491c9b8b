"""CSV input with a header line: one row per record, one column per input or per element of an input.

An input of one element is the column with its name. The elements of a longer one are the columns `name.0`, `name.1`,
..., in row-major order. A column `id` that is no input identifies the row. Other columns are ignored. Texts are UTF-8.

If a record is invalid or has an unclosed quote, only its first line fails. Reading continues with the next line, so an
unclosed quote does not lose the rest of the file.
"""

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from infaas.batch.rows import Chunk, SourcePosition
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
    """Rows of a CSV file. `total` counts lines, so it is too high if texts contain line breaks."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        csv.field_size_limit(_LONGEST_CELL)
        with path.open("rb") as file:
            lines = _Lines(file, {})
            header = _header(lines, path)
        self._start = lines.marks
        self._columns = [_columns(spec, header, path) for spec in self.inputs]
        is_input = any(spec.name == ID for spec in self.inputs)
        self._id = header.index(ID) if ID in header and not is_input else None
        self._width = len(header)
        self.total = max(count_lines(path) - 1, 0)

    def row_bytes(self) -> float:
        """See `RowFile.row_bytes`."""
        return self.path.stat().st_size / max(self.total or 0, 1)

    def read(self, begin: SourcePosition, size: int) -> Iterator[Chunk]:
        """See `RowFile.read`."""
        with self.path.open("rb") as file:
            yield from in_chunks(self._rows(_Lines(file, begin or self._start), int(begin.get("row", 0))), size)

    def _rows(self, lines: "_Lines", number: int) -> Iterator[ReadRow]:
        records = csv.reader(lines)
        while True:
            lines.begin_record()
            try:
                cells = next(records)
                refused = "an opening quote has no closing quote" if lines.ended else ""
            except StopIteration:
                return
            except csv.Error as error:
                cells, refused = [], _reason(error)
            if refused:
                error = InvalidRequest(f"line {lines.first} is not valid CSV: {refused}")
                lines.go_on_after_first()
                yield ReadRow(number, error, 0, {"row": number + 1, **lines.marks})
            elif cells:
                yield self._row(number, cells, {"row": number + 1, **lines.marks})
            else:
                continue
            number += 1

    def _row(self, number: int, cells: Sequence[str], end: SourcePosition) -> ReadRow:
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
    """Iterator over the lines of a file that tracks its position; all lines taken by the CSV reader form one record."""

    def __init__(self, file: BinaryIO, begin: SourcePosition) -> None:
        self._file = file
        self._next = _Place(int(begin.get("byte", 0)), int(begin.get("line", 1)))
        self._second = self._next
        self.first = 0
        """Line number of the record's first line, from 1."""
        self.ended = False
        """True if the reader reached the end of the file within the record."""
        file.seek(self._next.byte)

    @property
    def marks(self) -> SourcePosition:
        """Position of the next record."""
        return {"byte": self._next.byte, "line": self._next.line}

    def begin_record(self) -> None:
        """Mark the next line as the first of a record."""
        self.first = 0
        self.ended = False

    def go_on_after_first(self) -> None:
        """Go back to the line after the record's first line."""
        self._next = self._second
        self._file.seek(self._next.byte)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            self.ended = True
            raise StopIteration
        here, self._next = self._next, _Place(self._next.byte + len(line), self._next.line + 1)
        if not self.first:
            self.first, self._second = here.line, self._next
        return (line.removeprefix(_BOM) if here.byte == 0 else line).decode("utf-8", "surrogateescape")


class _Place(NamedTuple):
    """Position of the beginning of a line."""

    byte: int
    line: int


class _InputColumns(NamedTuple):
    """Columns of an input's elements in a record."""

    spec: TensorSpec
    indices: list[int]
    shape: tuple[int, ...]

    def array(self, cells: Sequence[str]) -> Array:
        """Return the input of a row; its first axis has length one."""
        spec, texts = self.spec, [cells[index] for index in self.indices]
        if spec.datatype == "BYTES":
            return bytes_array([text.encode("utf-8", "surrogateescape") for text in texts]).reshape(self.shape)
        try:
            if spec.datatype == "BOOL":
                return np.array([_TRUTH[text.strip().lower()] for text in texts]).reshape(self.shape)
            return np.array(texts, dtype_of(spec.datatype, spec.name)).reshape(self.shape)
        except (ValueError, OverflowError, KeyError) as error:
            raise InvalidRequest(f"{spec.name}: not {spec.datatype}: {error}") from None


def _header(lines: _Lines, path: Path) -> list[str]:
    try:
        return next(csv.reader(lines), [])
    except csv.Error as error:
        raise OperatorError(
            f"{path}: the header is not valid CSV: {_reason(error)}; lines must end in LF or CR LF"
        ) from error


def _reason(error: csv.Error) -> str:
    return str(error).partition(" - ")[0]  # the part after " - " is meant for programmers


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
            f"{path}: input {spec.name!r} of shape {list(spec.shape[1:])} needs a column of that name, or one column "
            f"for each element: {spec.name}.0, {spec.name}.1 and so on; there are {len(indices)}"
        )
    return _InputColumns(spec, indices, (1, *shape))
