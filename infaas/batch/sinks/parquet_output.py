"""Parquet output: columns `row`, optionally `id`, and one per output, with lists for outputs of several elements.

Chunks are appended as Arrow IPC streams of one record batch. At the end they are combined to row groups of at most
`_GROUP_ROWS` rows. Needs pyarrow (the extra `parquet`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from infaas.batch.rows import ChunkResult
from infaas.batch.sinks.output_format import ID, ROW, OutputFormat, as_texts, in_one
from schemas.errors import OperatorError
from schemas.tensors import BF16, Array, float32_of

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
        """Yield tables of about `_GROUP_ROWS` rows."""
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
        plain = as_texts(float32_of(array) if array.dtype == BF16 else array)
        flat = plain.reshape(-1)
        column = self._arrow.array(flat.tolist() if flat.dtype == object else np.ascontiguousarray(flat))
        for length in reversed(plain.shape[1:]):
            column = self._arrow.FixedSizeListArray.from_arrays(column, length)
        return column
