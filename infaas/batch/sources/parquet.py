"""Parquet input: one column per input of the task, with numbers, texts, binary values, or flat or nested lists.

Row groups are read in pieces, so that memory does not depend on their size. A column `id` that is no input identifies
the row. Rows with a null in an input's column fail. Needs pyarrow (the extra `parquet`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from infaas.batch.rows import Chunk, InputRows, SourcePosition
from infaas.batch.sources.chunking import CHUNK_BYTES, ReadRow, chunk_of
from infaas.batch.sources.jsonl import ID
from infaas.batch.sources.row_file import RowFile
from infaas.batch.sources.row_shape import row_shape
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array, bytes_array, dtype_of

_BUFFER: Final = 1 << 20


class ParquetTable(RowFile):
    """Rows of a Parquet file."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        with self._open() as file:
            metadata, names = file.metadata, file.schema_arrow.names
            self.total = metadata.num_rows
            self._groups = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            size = sum(metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups))
        self._row_bytes = size / max(self.total or 0, 1)
        missing = [spec.name for spec in self.inputs if spec.name not in names]
        if missing:
            raise OperatorError(f"{path}: there is no column {', '.join(missing)}; it has {', '.join(names)}")
        self._columns = [spec.name for spec in self.inputs]
        self._id = ID if ID in names and ID not in self._columns else None
        if self._id:
            self._columns.append(self._id)

    def row_bytes(self) -> float:
        """See `RowFile.row_bytes`."""
        return self._row_bytes

    def read(self, begin: SourcePosition, size: int) -> Iterator[Chunk]:
        """See `RowFile.read`."""
        step = max(1, min(size, int(CHUNK_BYTES / max(self._row_bytes, 1))))
        first_group, first_batch = int(begin.get("group", 0)), int(begin.get("batch", 0))
        number = sum(self._groups[:first_group])
        with self._open() as file:
            for group in range(first_group, len(self._groups)):
                batches = file.iter_batches(step, row_groups=[group], columns=self._columns)
                for index, batch in enumerate(batches):
                    end: SourcePosition = {"group": group, "batch": index + 1}
                    if group > first_group or index >= first_batch:
                        yield self._chunk(batch, number, end)
                    number += batch.num_rows

    def _chunk(self, batch: Any, first: int, end: SourcePosition) -> Chunk:
        numbers = np.arange(first, first + batch.num_rows, dtype=np.int64)
        ids: Sequence[object] = batch.column(self._id).to_pylist() if self._id else ()
        try:
            inputs = {spec.name: _array(batch.column(spec.name), spec) for spec in self.inputs}
        except InvalidRequest:  # find the rows that do not fit the task or differ in length
            each = (
                self._row(batch.slice(i, 1), int(number), end, ids[i] if ids else None)
                for i, number in enumerate(numbers)
            )
            return chunk_of([*each])
        return Chunk((InputRows(numbers, inputs, ids),), end)

    def _row(self, row: Any, number: int, end: SourcePosition, row_id: object) -> ReadRow:
        try:
            inputs = {spec.name: _array(row.column(spec.name), spec) for spec in self.inputs}
        except InvalidRequest as error:
            return ReadRow(number, error, 0, end, row_id)
        return ReadRow(number, inputs, 0, end, row_id)

    def _open(self) -> Any:
        try:
            from pyarrow import ArrowException, parquet
        except ImportError:
            raise OperatorError(f"{self.path}: reading Parquet needs pyarrow: pip install 'infaas[parquet]'") from None
        try:
            return parquet.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)
        except ArrowException as error:
            raise OperatorError(f"{self.path} is not a Parquet file: {error}") from error


def _array(column: Any, spec: TensorSpec) -> Array:
    """Return the values of a column as an input; each level of lists becomes an axis."""
    rows, values, lengths = len(column), column, list[int]()
    while True:
        if values.null_count:
            raise InvalidRequest(f"{spec.name}: the value is missing")
        if not hasattr(values, "value_lengths"):
            break
        found = set(values.value_lengths().to_pylist())
        if len(found) != 1:
            raise InvalidRequest(f"{spec.name}: the lists have different lengths")
        lengths.append(found.pop())
        values = values.flatten()
    shape = row_shape(lengths, spec)
    if spec.datatype == "BYTES":
        items = values.to_pylist()
        if not all(isinstance(item, (bytes, str)) for item in items):
            raise InvalidRequest(f"{spec.name}: the task takes texts or files, the column holds {column.type}")
        return bytes_array(items).reshape(rows, *shape)
    try:
        found = values.to_numpy(zero_copy_only=False).astype(dtype_of(spec.datatype, spec.name), casting="same_kind")
    except (TypeError, ValueError):
        raise InvalidRequest(f"{spec.name}: the task takes {spec.datatype}, the column holds {column.type}") from None
    return found.reshape(rows, *shape)
