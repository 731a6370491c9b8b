"""CSV with a header line: one row per record, one column per tensor or per element of a tensor.

A tensor of one element is the column with its name. The elements of a longer one are the columns `name.0`, `name.1`,
..., in row-major order. Texts are UTF-8.

In the input, a column `id` that is no input identifies the row, and other columns are ignored. If a record is invalid
or has an unclosed quote, only its first line fails. Reading continues with the next line, so an unclosed quote does
not lose the rest of the file. The output has the columns `row` and, if the rows have ids, `id`.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from infaas.batch.formats.file_format import ID, ROW, OutputFormat, RowFile, as_plain, count_lines, in_one, row_shape
from infaas.batch.rows import Chunk, ChunkResult, ReadRow, SourcePosition, in_chunks, size_of
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
    byte: int
    line: int


class _InputColumns(NamedTuple):
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
    array = as_plain(array)
    flat = array.reshape(len(array), -1)
    return flat if flat.dtype == object else flat.astype(np.str_)
