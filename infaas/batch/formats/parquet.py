"""Parquet: one column per tensor, with numbers, texts, binary values, or flat or nested lists.

Needs pyarrow (the extra `parquet`).

Row groups of the input are read in pieces, so that memory does not depend on their size. A column `id` that is no input
identifies the row. Rows with a null in an input's column fail.

The output has the columns `row` and, if the rows have ids, `id`. Chunks are appended as Arrow IPC streams of one record
batch. At the end they are combined to row groups of at most `_GROUP_ROWS` rows.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from infaas.batch.formats.file_format import ID, ROW, OutputFormat, RowFile, as_plain, in_one, row_shape
from infaas.batch.rows import CHUNK_BYTES, Chunk, ChunkResult, InputRows, ReadRow, SourcePosition, chunk_of
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


_GROUP_ROWS: Final = 65_536


class ParquetOutput(OutputFormat):
    """Writer of Parquet."""

    def __init__(self) -> None:
        try:
            import pyarrow as arrow
        except ImportError:
            raise OperatorError("writing Parquet needs pyarrow: pip install 'infaas[parquet]'") from None
        self._arrow: Any = arrow

    def encode(self, result: ChunkResult) -> bytes:
        """See `OutputFormat.encode`."""
        rows = in_one(result)
        if rows is None:
            return b""
        columns: dict[str, Any] = {ROW: self._arrow.array(rows.numbers)}
        if rows.ids:
            columns[ID] = self._arrow.array(
                [None if name is None else str(name) for name in rows.ids], self._arrow.string()
            )
        columns |= {name: self._column(array) for name, array in rows.outputs.items()}
        batch = self._arrow.record_batch(list(columns.values()), names=list(columns))
        sink = self._arrow.BufferOutputStream()
        with self._arrow.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue().to_pybytes()

    def complete(self, appended: Path, whole: Path) -> Path:
        """See `OutputFormat.complete`."""
        from pyarrow import parquet

        schema = self._schema(appended)
        with parquet.ParquetWriter(whole, schema) as writer:
            for table in self._groups(appended, schema):
                writer.write_table(table)
        return whole

    def _schema(self, appended: Path) -> Any:
        """Return the schema of all batches. A column missing in a batch, such as `id`, is null there."""
        found = self._arrow.schema([(ROW, self._arrow.int64())])
        try:
            for batch in self._batches(appended):
                if batch.schema != found:
                    found = self._arrow.unify_schemas([found, batch.schema])
        except self._arrow.ArrowException:
            raise OperatorError("rows have outputs of different shapes; write to a .jsonl file") from None
        return found

    def _groups(self, appended: Path, schema: Any) -> Iterator[Any]:
        held, rows = [schema.empty_table()], 0
        for batch in self._batches(appended):
            if rows and rows + batch.num_rows > _GROUP_ROWS:
                yield self._arrow.concat_tables(held, promote_options="default")
                held, rows = held[:1], 0
            held.append(self._arrow.Table.from_batches([batch]))
            rows += batch.num_rows
        if rows:
            yield self._arrow.concat_tables(held, promote_options="default")

    def _batches(self, appended: Path) -> Iterator[Any]:
        size = appended.stat().st_size
        with self._arrow.OSFile(str(appended)) as file:
            while file.tell() < size:
                yield from self._arrow.ipc.open_stream(file)

    def _column(self, array: Array) -> Any:
        """Return an Arrow column with one value per row, or with nested lists, one level per axis."""
        plain = as_plain(array)
        flat = plain.reshape(-1)
        column = self._arrow.array(flat.tolist() if flat.dtype == object else np.ascontiguousarray(flat))
        for length in reversed(plain.shape[1:]):
            column = self._arrow.FixedSizeListArray.from_arrays(column, length)
        return column
