"""JSON Lines input: one row per line, see `json_row`.

A field `id` that is no input identifies the row. Empty lines are ignored.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import orjson

from infaas.batch.rows import Chunk, SourcePosition
from infaas.batch.sources.chunking import ReadRow, in_chunks, size_of
from infaas.batch.sources.json_row import row_inputs, row_values
from infaas.batch.sources.row_file import RowFile, count_lines
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec

ID: Final = "id"
LONGEST_LINE: Final = 16 << 20


class JsonLines(RowFile):
    """Rows of a JSON Lines file."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        self.total = count_lines(path)

    def row_bytes(self) -> float:
        """See `RowFile.row_bytes`."""
        return self.path.stat().st_size / max(self.total or 0, 1)

    def read(self, begin: SourcePosition, size: int) -> Iterator[Chunk]:
        """See `RowFile.read`."""
        with self.path.open("rb") as file:
            file.seek(int(begin.get("byte", 0)))
            yield from in_chunks(self._rows(file, int(begin.get("row", 0))), size)

    def _rows(self, file: BinaryIO, number: int) -> Iterator[ReadRow]:
        while line := file.readline(LONGEST_LINE):
            length = len(line)
            too_long = length == LONGEST_LINE and not line.endswith(b"\n")
            while too_long and (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            if not line.strip():
                continue
            end: SourcePosition = {"row": number + 1, "byte": file.tell()}
            if too_long:
                yield ReadRow(number, InvalidRequest(f"the line has more than {LONGEST_LINE} bytes"), 0, end)
            else:
                yield self._row(number, line, end)
            number += 1

    def _row(self, number: int, line: bytes, end: SourcePosition) -> ReadRow:
        row_id: object = None
        try:
            values = row_values(line, self.inputs)
            if ID in values and all(spec.name != ID for spec in self.inputs):
                row_id = _name(values[ID])
            inputs = row_inputs(values, self.inputs)
        except InvalidRequest as error:
            return ReadRow(number, error, len(line), end, row_id)
        return ReadRow(number, inputs, size_of(inputs), end, row_id)


def _name(raw: msgspec.Raw) -> object:
    """Return the id of a row in a form that can be encoded as JSON again."""
    try:
        return orjson.loads(orjson.dumps(msgspec.json.decode(raw)))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"{ID} cannot be stored: {error}") from None
