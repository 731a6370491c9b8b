"""JSON Lines: a row a line, an object with a value for each input of the task, or the value alone where there is one.

A row's value is what the JSON form of the Open Inference Protocol has for it: a number, a text, a flat or a nested
list. A field `id` that is no input is what the row is called. Empty lines are no rows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from infaas.batch.rows import Chunk, Marks
from infaas.batch.sources.chunking import ReadRow, in_chunks
from infaas.batch.sources.row_file import RowFile, count_lines
from infaas.batch.sources.row_shape import row_shape
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array, from_json

ID: Final = "id"
LONGEST_LINE: Final = 16 << 20
_FLAT: Final = re.compile(rb"\s*\[(?!\s*\[)")
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class JsonLines(RowFile):
    """Rows of a JSON Lines file."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        self.total = count_lines(path)

    def row_bytes(self) -> float:
        """See `RowFile.row_bytes`."""
        return self.path.stat().st_size / max(self.total or 0, 1)

    def read(self, begin: Marks, size: int) -> Iterator[Chunk]:
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
            end: Marks = {"row": number + 1, "byte": file.tell()}
            if too_long:
                yield ReadRow(number, InvalidRequest(f"the line has more than {LONGEST_LINE} bytes"), 0, end)
            else:
                yield self._row(number, line, end)
            number += 1

    def _row(self, number: int, line: bytes, end: Marks) -> ReadRow:
        row_id: object = None
        try:
            values = self._values(line)
            if ID in values and all(spec.name != ID for spec in self.inputs):
                row_id = msgspec.json.decode(values[ID])
            inputs = {spec.name: _array(spec, values) for spec in self.inputs}
        except InvalidRequest as error:
            return ReadRow(number, error, len(line), end, row_id)
        return ReadRow(number, inputs, sum(array.nbytes for array in inputs.values()), end, row_id)

    def _values(self, line: bytes) -> Mapping[str, msgspec.Raw]:
        if len(self.inputs) == 1 and not line.lstrip().startswith(b"{"):
            return {self.inputs[0].name: msgspec.Raw(line)}
        try:
            return _object.decode(line)
        except RecursionError:
            raise InvalidRequest("the JSON is nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise InvalidRequest(f"the line is no JSON object: {error}") from None


def _array(spec: TensorSpec, values: Mapping[str, msgspec.Raw]) -> Array:
    try:
        raw = values[spec.name]
    except KeyError:
        raise InvalidRequest(f"there is no {spec.name!r} in it") from None
    shape = tuple(spec.shape[1:])
    if any(length < 0 for length in shape):
        shape = _found_shape(spec, raw)
    is_flat = _FLAT.match(raw) is not None
    return from_json(spec.datatype, (1, *shape), bytes(raw) if is_flat else b"[%b]" % bytes(raw), spec.name)


def _found_shape(spec: TensorSpec, raw: msgspec.Raw) -> tuple[int, ...]:
    """The shape of a value where the task leaves lengths open."""
    try:
        found = np.shape(msgspec.json.decode(raw))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise InvalidRequest(f"{spec.name}: the nested lists are not of one length") from None
    return row_shape(found, spec)
