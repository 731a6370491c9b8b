"""JSON Lines: one row per line.

A row of the input is an object with a value for each input of the task, or the bare value if the task has one input.
Values are as in the JSON of the Open Inference Protocol: a number, a text, or a flat or nested list. A field `id` that
is no input identifies the row. Empty lines are ignored.

A row of the output is `{"row": 0, "id": ..., "outputs": {"label": "seven", "scores": [...]}}`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np
import orjson

from infaas.batch.formats.file_format import ID, OutputFormat, RowFile, as_plain, count_lines, row_shape
from infaas.batch.rows import Chunk, ChunkResult, FailedRow, OutputRows, ReadRow, SourcePosition, in_chunks, size_of
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array, from_json

LONGEST_LINE: Final = 16 << 20
_FLAT: Final = re.compile(rb"\s*\[(?!\s*\[)")
_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
_SPECIAL: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def row_values(line: bytes, inputs: Sequence[TensorSpec]) -> Mapping[str, msgspec.Raw]:
    """Return the values of a row by name, undecoded.

    Raises:
        InvalidRequest: the line is not a JSON object.
    """
    if len(inputs) == 1 and not line.lstrip().startswith(b"{"):
        return {inputs[0].name: msgspec.Raw(line)}
    try:
        return _object.decode(line)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"the line is not a JSON object: {error}") from None


def row_inputs(values: Mapping[str, msgspec.Raw], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Decode the values of a row to inputs whose first axis has length one.

    Raises:
        InvalidRequest: an input is missing or does not fit the task.
    """
    return {spec.name: _array(spec, values) for spec in inputs}


def _array(spec: TensorSpec, values: Mapping[str, msgspec.Raw]) -> Array:
    try:
        raw = values[spec.name]
    except KeyError:
        raise InvalidRequest(f"{spec.name!r} is missing") from None
    shape = tuple(spec.shape[1:])
    if any(length < 0 for length in shape):
        shape = _found_shape(spec, raw)
    is_flat = _FLAT.match(raw) is not None
    return from_json(spec.datatype, (1, *shape), bytes(raw) if is_flat else b"[%b]" % bytes(raw), spec.name)


def _found_shape(spec: TensorSpec, raw: msgspec.Raw) -> tuple[int, ...]:
    """Return the shape of a value of an input with dynamic axes."""
    try:
        found = np.shape(msgspec.json.decode(raw))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise InvalidRequest(f"{spec.name}: the nested lists have different lengths") from None
    return row_shape(found, spec)


class JsonLines(RowFile):
    """Rows of a JSON Lines file."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        self.total = count_lines(path)

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


class JsonOutput(OutputFormat):
    """Writer of JSON Lines."""

    def encode(self, result: ChunkResult) -> bytes:
        """See `OutputFormat.encode`."""
        if len(result.answered) == 1:
            return b"".join(line for _, line in _lines(result.answered[0]))
        return b"".join(line for _, line in sorted(line for part in result.answered for line in _lines(part)))


def failed_line(row: FailedRow) -> bytes:
    """Return the JSON line of a failed row."""
    head: dict[str, object] = {"row": row.number} | ({} if row.id is None else {"id": row.id})
    return orjson.dumps(head | {"code": row.code, "reason": row.reason}, str, _OPTIONS)


def _lines(rows: OutputRows) -> Iterator[tuple[int, bytes]]:
    outputs = {name: encodable(array) for name, array in rows.outputs.items()}
    for index, number in enumerate(rows.numbers.tolist()):
        line: dict[str, object] = {"row": number}
        if rows.ids and rows.ids[index] is not None:
            line["id"] = rows.ids[index]
        line["outputs"] = {name: values[index] for name, values in outputs.items()}
        yield number, orjson.dumps(line, str, _OPTIONS)


def encodable(array: Array) -> Any:
    """Return an array in a form that orjson can encode row by row.

    orjson encodes numpy arrays, but not arrays of text or float16, and it has no numbers for NaN and infinity.
    """
    array = as_plain(array)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return _named(array.tolist())
    return array.tolist() if array.dtype == object else np.ascontiguousarray(array)


def _named(values: Any) -> Any:
    """Replace NaN and infinities in nested lists by their names, as in the protocol's JSON."""
    if isinstance(values, list):
        return [_named(value) for value in values]
    return _SPECIAL.get(str(values), values)
